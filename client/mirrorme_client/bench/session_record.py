"""What one benched session sent and received, and when. Times are of one monotonic clock."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from fractions import Fraction

from mirrorme.animate.v1 import animation_pb2 as pb


@dataclass(frozen=True)
class Arrival:
    """A batch of frames."""

    at_s: float
    first_frame: int
    num_frames: int
    first_sample: int
    epoch: int
    utterance: int
    is_idle: bool
    num_samples: int
    """Of the audio that came with it."""
    picture: int = 0
    """A checksum of the last frame: a picture that holds comes again as it was (but for H.264)."""

    @classmethod
    def of(cls, batch: pb.FrameBatch, at_s: float) -> Arrival:
        """Notes a batch that has just come."""
        return cls(
            at_s,
            batch.first_frame_index,
            len(batch.frames),
            batch.frames[0].sample_index,
            batch.epoch,
            batch.utterance,
            batch.is_idle,
            len(batch.audio) // 2,
            zlib.crc32(batch.frames[-1].data),
        )


@dataclass
class SessionRecord:
    """Grows while its session runs."""

    is_paced: bool
    """True: the server paces, frame by frame. False: chunks come as fast as speech does."""
    frame_rate: Fraction = Fraction(24)
    sample_rate_hz: int = 16_000
    chunk_frames: int = 8
    algorithmic_latency_s: float = 0.0
    onsets_s: list[float] = field(default_factory=list)
    """When the first sample of each utterance was sent."""
    interrupts_s: list[float] = field(default_factory=list)
    push_lags_s: list[float] = field(default_factory=list)
    """How late each piece of speech was sent: the load of this client's own machine."""
    arrivals: list[Arrival] = field(default_factory=list)
    summary: pb.SessionSummary | None = None
    error: str = ""
    """Why it failed; empty where it did not."""

    def begin(self, started: pb.SessionStarted) -> None:
        """Takes over what the server said of the session."""
        timing = started.timing
        self.frame_rate = Fraction(timing.frame_rate_numerator, timing.frame_rate_denominator)
        self.sample_rate_hz = timing.sample_rate_hz
        self.chunk_frames = timing.chunk_frames
        self.algorithmic_latency_s = started.algorithmic_latency_ms / 1000
