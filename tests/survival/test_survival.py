"""Gateways that are killed, drained and restarted under clients, around a real Redis."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pytest
from mirrorme.animate.v1 import animation_pb2 as pb
from mirrorme_client import AnimationClient, h264, jpeg, pcm_s16le, rgb24

from tests.service.gateway import portrait_png, speech
from tests.service.redis_process import RedisProcess, requires_redis
from tests.survival.gateway_process import GatewayProcess

pytestmark = [*requires_redis, pytest.mark.timeout(300)]

SECONDS = 6
NUM_FRAMES = 24 * SECONDS
PIECE_BYTES = 3200
PAUSE_S = 0.02
PCM_48K = pcm_s16le(48_000)


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisProcess]:
    server = RedisProcess(tmp_path)
    yield server
    server.stop()


@pytest.fixture
def gateways(redis: RedisProcess, tmp_path: Path) -> Iterator[list[GatewayProcess]]:
    options = ("--store-url", redis.url, "--drain-s", "20", "--max-sessions", "16")
    processes = [GatewayProcess(tmp_path, *options) for _ in range(2)]
    yield processes
    for process in processes:
        process.kill()


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


async def pushed(session, data: bytes, pause_s: float, may_end: asyncio.Event | None) -> None:
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
        pushing = asyncio.create_task(pushed(session, data, pause_s, may_end))
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


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"audio_format": PCM_48K, "max_unacked_frames": 16},
        {"audio_format": pcm_s16le(11_025), "output": rgb24()},
    ],
    ids=["jpeg", "48k-acks", "11k-raw"],
)
async def test_a_killed_gateway_costs_no_frame(
    gateways: list[GatewayProcess],
    settings: dict,
    record_property: Callable[[str, object], None],
) -> None:
    targets = [gateway.target for gateway in gateways]
    unbroken = await talk(targets, Got(), pause_s=0, **settings)
    got, may_end = Got(), asyncio.Event()
    session = asyncio.create_task(talk(targets, got, may_end=may_end, **settings))
    await until(got, 40)
    await asyncio.to_thread(gateways[0].kill)
    may_end.set()
    await session
    assert got.num_moves == 1
    assert_same(got, unbroken)
    record_property("longest_gap_ms", round(1000 * got.longest_gap_s))
    # And back, to the one that was killed before.
    await asyncio.to_thread(gateways[0].start)
    again, may_end = Got(), asyncio.Event()
    session = asyncio.create_task(talk(targets[::-1], again, may_end=may_end, **settings))
    await until(again, 70)
    await asyncio.to_thread(gateways[1].kill)
    may_end.set()
    await session
    await asyncio.to_thread(gateways[1].start)
    assert again.num_moves == 1
    assert_same(again, unbroken)


async def test_h264_goes_on_with_a_key_frame(gateways: list[GatewayProcess]) -> None:
    targets = [gateway.target for gateway in gateways]
    got, may_end = Got(), asyncio.Event()
    session = asyncio.create_task(talk(targets, got, may_end=may_end, output=h264()))
    await until(got, 20)
    await asyncio.to_thread(gateways[0].kill)
    may_end.set()
    await session
    assert got.num_moves == 1
    assert got.indices == list(range(NUM_FRAMES))
    keys = [index for index, frame in enumerate(got.frames) if frame.is_key_frame]
    assert len(keys) > NUM_FRAMES // 48
    assert any(index % 48 for index in keys)


async def test_redis_lost_and_found_costs_nothing(
    gateways: list[GatewayProcess], redis: RedisProcess
) -> None:
    targets = [gateway.target for gateway in gateways]
    unbroken = await talk(targets, Got(), pause_s=0)
    got, may_end = [Got() for _ in range(3)], asyncio.Event()
    sessions = [asyncio.create_task(talk(targets, each, may_end=may_end)) for each in got]
    await until(got[0], 30)
    redis.stop()
    for each in got:
        await until(each, 90)
    await asyncio.to_thread(redis.start)
    await asyncio.to_thread(redis.until_keys, len(got))
    # What was lost is kept again.
    await asyncio.to_thread(gateways[0].kill)
    may_end.set()
    await asyncio.gather(*sessions)
    for each in got:
        assert each.num_moves == 1
        assert_same(each, unbroken)


async def restarted(gateways: list[GatewayProcess], num_rounds: int) -> list[int]:
    codes = []
    for gateway in gateways * num_rounds:
        gateway.terminate()
        codes.append(await asyncio.to_thread(gateway.wait))
        await asyncio.to_thread(gateway.start)
    return codes


async def test_rolling_restart_fails_no_session(gateways: list[GatewayProcess]) -> None:
    targets = [gateway.target for gateway in gateways]
    unbroken = await talk(targets, Got(), pause_s=0)
    rolling = asyncio.create_task(restarted(gateways, 2))
    num_sessions = num_moves = 0

    async def caller(order: list[str]) -> AsyncIterator[Got]:
        while not rolling.done():
            yield await talk(order, Got())

    async def load(order: list[str]) -> None:
        nonlocal num_sessions, num_moves
        async for got in caller(order):
            assert_same(got, unbroken)
            num_sessions += 1
            num_moves += got.num_moves

    await asyncio.gather(*(load(targets[::step]) for step in (1, -1, 1)))
    assert await rolling == [0] * 4
    assert num_sessions >= 3
    assert num_moves
