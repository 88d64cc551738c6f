"""Animates a portrait with speech into a file: the session, the speech and the writer together."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from mirrorme.animate.v1 import animation_pb2 as pb

from mirrorme_client.client import AnimationClient
from mirrorme_client.errors import ServerFault
from mirrorme_client.formats import bytes_per_sample, frame_rate_fps, pcm_s16le
from mirrorme_client.frame_writer import FrameWriter, open_writer
from mirrorme_client.portrait import Portrait
from mirrorme_client.session import AnimationSession

# Poses must be there before the speech that makes their frames; the server bounds how long before.
_POSES_AHEAD_S = 1.0


class Speech(Protocol):
    """Speech to animate: an `AudioFile` or a `PcmInput`."""

    @property
    def format(self) -> pb.AudioFormat:
        """Of the bytes."""
        ...

    @property
    def duration_s(self) -> float | None:
        """None where it is not known ahead."""
        ...

    def __aiter__(self) -> AsyncIterator[bytes]: ...


@dataclass(frozen=True)
class RecordingPlan:
    """What to record."""

    portrait: Portrait
    output: pb.OutputFormat
    crop_mode: pb.CropMode = pb.CROP_MODE_UNSPECIFIED
    pacing: pb.Pacing = pb.PACING_AS_FAST_AS_POSSIBLE
    seed: int | None = None
    guidance: float | None = None
    expression: float | None = None
    preset: str = ""
    consent_token: str = field(default="", repr=False)
    controls: Sequence[pb.FacialControl] = ()
    """In force from the first frame to the last."""
    hands: Sequence[pb.HandPose] = ()
    on_started: Callable[[pb.SessionStarted], None] = field(default=lambda started: None)
    on_frames: Callable[[int], None] = field(default=lambda num_frames: None)
    """Called with the number of frames written so far."""


@dataclass(frozen=True)
class Recording:
    """What was recorded, and how fast."""

    path: Path
    started: pb.SessionStarted
    summary: pb.SessionSummary
    num_frames: int
    first_frame_latency_s: float
    """First speech sent to first frame received."""
    wall_s: float
    """First speech sent to last frame received."""

    @property
    def duration_s(self) -> float:
        """Of the video."""
        return float(self.num_frames / frame_rate_fps(self.started.timing))

    @property
    def real_time_factor(self) -> float:
        """Seconds of work a second of video; below 1 is faster than real time."""
        return self.wall_s / self.duration_s

    @property
    def num_bytes(self) -> int:
        """Of the file, or of all files of the folder."""
        if self.path.is_file():
            return self.path.stat().st_size
        folder = self.path.parent if "%" in self.path.name else self.path
        return sum(file.stat().st_size for file in folder.iterdir())


async def record(
    client: AnimationClient, plan: RecordingPlan, speech: Speech, path: Path
) -> Recording:
    """Records speech to its end. On any error or cancellation nothing is left at `path`.

    Raises:
        AnimationError
    """
    # In real time the server puts idle frames between; only it knows which audio goes where.
    is_real_time = plan.pacing == pb.PACING_REAL_TIME
    session = client.animate(
        plan.portrait,
        audio_format=speech.format,
        output=plan.output,
        crop_mode=plan.crop_mode,
        pacing=plan.pacing,
        seed=plan.seed,
        guidance=plan.guidance,
        expression=plan.expression,
        include_audio=is_real_time,
        preset=plan.preset,
        consent_token=plan.consent_token,
        client_reference="mirrorme animate",
    )
    async with session:
        plan.on_started(session.started)
        timing = session.started.timing
        audio_format = pcm_s16le(timing.sample_rate_hz) if is_real_time else speech.format
        num_frames = 0
        first_s = last_s = 0.0
        with open_writer(path, session.started, audio_format) as writer:
            if plan.controls:
                await session.set_controls(plan.controls)
            start_s = time.monotonic()
            session.feed(_speak(session, speech, plan.hands, None if is_real_time else writer))
            async for batch in session:
                last_s = time.monotonic() - start_s
                first_s = first_s or last_s
                writer.write_audio(batch.audio)
                writer.write_frames(batch)
                num_frames += len(batch.frames)
                plan.on_frames(num_frames)
            if not num_frames:
                raise ServerFault("the server sent no frames: there is nothing to write")
        return Recording(
            path=path,
            started=session.started,
            summary=session.summary,
            num_frames=num_frames,
            first_frame_latency_s=first_s,
            wall_s=last_s,
        )


async def _speak(
    session: AnimationSession,
    speech: Speech,
    hands: Sequence[pb.HandPose],
    writer: FrameWriter | None,
) -> AsyncIterator[bytes]:
    """The speech, with the hands sent ahead of it and a copy to the writer."""
    timing = session.started.timing
    waiting = sorted(hands, key=lambda pose: _time_s(pose, timing))
    num_bytes_per_s = speech.format.sample_rate_hz * bytes_per_sample(speech.format)
    num_bytes = 0
    async for data in speech:
        num_bytes += len(data)
        if waiting:
            until_s = num_bytes / num_bytes_per_s + _POSES_AHEAD_S
            num_due = sum(_time_s(pose, timing) <= until_s for pose in waiting)
            await session.push_hands(waiting[:num_due])
            del waiting[:num_due]
        if writer is not None:
            writer.write_audio(data)
        yield data


def _time_s(pose: pb.HandPose, timing: pb.AudioTiming) -> float:
    if pose.WhichOneof("time") == "sample_index":
        return pose.sample_index / timing.sample_rate_hz
    return float(pose.frame_index / frame_rate_fps(timing))
