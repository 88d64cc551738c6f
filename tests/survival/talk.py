"""A session of the Python client that may be moved, and all that it brought."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from itertools import pairwise

from mirrorme.animate.v1 import animation_pb2 as pb
from mirrorme_client import AnimationClient, jpeg, pcm_s16le

from tests.service.gateway import portrait_png, speech

SECONDS = 6
NUM_FRAMES = 24 * SECONDS
PIECE_BYTES = 3200
PAUSE_S = 0.02


@dataclass
class Got:
    """What a session brought."""

    frames: list[pb.Frame] = field(default_factory=list)
    indices: list[int] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    utterances: list[tuple[int, str | None]] = field(default_factory=list)
    audio: bytes = b""
    taken_s: list[float] = field(default_factory=list)
    """When each batch came."""
    summary: pb.SessionSummary | None = None

    def on_event(self, event: pb.SessionEvent) -> None:
        kind = event.WhichOneof("event")
        self.events.append(kind or "")
        if kind in ("utterance_started", "utterance_finished"):
            self.utterances.append((event.frame_index, kind))

    @property
    def pixels(self) -> list[bytes]:
        return [frame.data for frame in self.frames]

    @property
    def longest_gap_s(self) -> float:
        return max(b - a for a, b in pairwise(self.taken_s))

    @property
    def num_moves(self) -> int:
        return self.events.count("taken_over")


async def _pushed(session, data: bytes, pause_s: float, may_end: asyncio.Event | None) -> None:
    """Pushes speech little by little, in two utterances; the last part when it may end."""
    for start in range(0, len(data), PIECE_BYTES):
        if may_end is not None and start > 0.7 * len(data):
            await may_end.wait()
        await session.push_audio(data[start : start + PIECE_BYTES])
        if start == 10 * PIECE_BYTES:
            await session.end_utterance()
        await asyncio.sleep(pause_s)
    await session.finish()


async def talk(
    targets: list[str],
    got: Got,
    *,
    pause_s: float = PAUSE_S,
    may_end: asyncio.Event | None = None,
    **settings,
) -> Got:
    """A session of one client."""
    audio_format = settings.setdefault("audio_format", pcm_s16le(16_000))
    rate_hz = audio_format.sample_rate_hz
    data = speech(SECONDS * rate_hz)
    async with (
        AnimationClient(targets, connect_timeout_s=60, reconnect_timeout_s=200) as client,
        client.animate(
            portrait_png(),
            crop_mode=pb.CROP_MODE_CENTER,
            seed=1,
            include_audio=True,
            on_event=got.on_event,
            **{"output": jpeg(), **settings},
        ) as session,
    ):
        pushing = asyncio.create_task(_pushed(session, data, pause_s, may_end))
        async for batch in session:
            got.indices += range(
                batch.first_frame_index, batch.first_frame_index + len(batch.frames)
            )
            got.frames += batch.frames
            got.taken_s.append(time.monotonic())
            got.audio += batch.audio
        await pushing
        got.summary = session.summary
    return got


async def until(got: Got, num_frames: int) -> None:
    async with asyncio.timeout(100):
        while len(got.frames) < num_frames:  # noqa: ASYNC110 (frames tell nobody)
            await asyncio.sleep(0.005)


def assert_same(got: Got, unbroken: Got) -> None:
    assert got.indices == list(range(NUM_FRAMES))
    assert got.pixels == unbroken.pixels
    assert got.audio == unbroken.audio
    assert got.utterances == unbroken.utterances
    assert got.summary is not None
    assert got.summary.num_frames == NUM_FRAMES
