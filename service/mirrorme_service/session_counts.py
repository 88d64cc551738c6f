"""What is counted and timed in one session, for its summary."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

from google.protobuf.duration_pb2 import Duration
from mirrorme.animate.v1 import animation_pb2 as pb

from mirrorme_service.delivery_marks import FrameCounts
from mirrorme_service.session_state import SessionState

# Percentiles are of the last chunks: 90 minutes at 3 chunks a second.
_MAX_CHUNK_TIMES = 1 << 14


@dataclass
class SessionCounts:
    """Grows with the session; `summary` may be taken at any time. Times are the wall clock's."""

    started_s: float
    first_chunk_heard_s: float | None = None
    """When the audio of the first chunk was complete; in real time, when the first audio came."""
    first_frame_s: float | None = None
    """When the first frame that speech drives had been sent."""
    compute_s: float = 0.0
    """In which the chunk decoded last was made, without waiting for engines."""
    num_audio_samples: int = 0
    num_chunks: int = 0
    num_frames: int = 0
    num_idle_frames: int = 0
    num_skipped_frames: int = 0
    num_late_frames: int = 0
    num_interrupts: int = 0
    num_frame_bytes: int = 0
    chunk_times_s: deque[float] = field(default_factory=lambda: deque(maxlen=_MAX_CHUNK_TIMES))

    @property
    def of_frames(self) -> FrameCounts:
        """The counts that belong to frames."""
        return FrameCounts(
            self.num_frames,
            self.num_idle_frames,
            self.num_skipped_frames,
            self.num_late_frames,
            self.num_frame_bytes,
        )

    @property
    def first_frame_latency_s(self) -> float | None:
        """None before the first frame was sent."""
        if self.first_frame_s is None or self.first_chunk_heard_s is None:
            return None
        return self.first_frame_s - self.first_chunk_heard_s

    def __str__(self) -> str:
        """For logs."""
        latency_s = self.first_frame_latency_s or 0.0
        return (
            f"{self.num_frames} frames ({self.num_idle_frames} idle), {self.num_skipped_frames} "
            f"left out, {self.num_late_frames} late, {self.num_frame_bytes} bytes, "
            f"{self.num_interrupts} interrupts, first frame {1000 * latency_s:.0f} ms"
        )

    def summary(self, state: SessionState, now_s: float) -> pb.SessionSummary:
        """The counts so far, as the contract says them."""
        result = pb.SessionSummary(
            num_frames=self.num_frames,
            num_idle_frames=self.num_idle_frames,
            num_skipped_frames=self.num_skipped_frames,
            num_late_frames=self.num_late_frames,
            num_audio_samples=self.num_audio_samples,
            num_utterances=state.speech.num_utterances,
            num_interrupts=self.num_interrupts,
            num_chunks=self.num_chunks,
            num_frame_bytes=self.num_frame_bytes,
            session_time=as_duration(now_s - self.started_s),
        )
        if self.first_frame_latency_s is not None:
            result.first_frame_latency.CopyFrom(as_duration(self.first_frame_latency_s))
        if self.chunk_times_s:
            times = sorted(self.chunk_times_s)
            result.chunk_time_p50.CopyFrom(as_duration(_percentile(times, 50)))
            result.chunk_time_p99.CopyFrom(as_duration(_percentile(times, 99)))
        return result


def as_duration(seconds: float) -> Duration:
    """As the contract says it, to the microsecond."""
    duration = Duration()
    duration.FromMicroseconds(round(1e6 * seconds))
    return duration


def _percentile(ordered: list[float], percent: int) -> float:
    """The smallest value that `percent` of all are not above (nearest rank)."""
    return ordered[max(0, math.ceil(percent * len(ordered) / 100) - 1)]
