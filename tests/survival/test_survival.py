"""Gateways that are killed, drained and restarted under clients, around a real Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from mirrorme_client import h264, pcm_s16le, rgb24

from tests.service.gateway_process import GatewayProcess, running_gateways
from tests.service.redis_process import RedisProcess, requires_redis
from tests.survival.talk import NUM_FRAMES, Got, assert_same, talk, until

pytestmark = [*requires_redis, pytest.mark.timeout(300)]

PCM_48K = pcm_s16le(48_000)


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisProcess]:
    server = RedisProcess(tmp_path)
    yield server
    server.stop()


@pytest.fixture
async def gateways(redis: RedisProcess, tmp_path: Path) -> AsyncIterator[list[GatewayProcess]]:
    settings = (f"--store-url={redis.url}", "--drain-s=20", "--max-sessions=16")
    async with running_gateways(2, tmp_path, *settings) as processes:
        yield processes


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
    gateways[0].kill()
    may_end.set()
    await session
    assert got.num_moves == 1
    assert_same(got, unbroken)
    record_property("longest_gap_ms", round(1000 * got.longest_gap_s))
    # And back, to the one that was killed before.
    await gateways[0].start()
    again, may_end = Got(), asyncio.Event()
    session = asyncio.create_task(talk(targets[::-1], again, may_end=may_end, **settings))
    await until(again, 70)
    gateways[1].kill()
    may_end.set()
    await session
    await gateways[1].start()
    assert again.num_moves == 1
    assert_same(again, unbroken)


async def test_h264_goes_on_with_a_key_frame(gateways: list[GatewayProcess]) -> None:
    targets = [gateway.target for gateway in gateways]
    got, may_end = Got(), asyncio.Event()
    session = asyncio.create_task(talk(targets, got, may_end=may_end, output=h264()))
    await until(got, 20)
    gateways[0].kill()
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
    gateways[0].kill()
    may_end.set()
    await asyncio.gather(*sessions)
    for each in got:
        assert each.num_moves == 1
        assert_same(each, unbroken)


async def restarted(gateways: list[GatewayProcess], num_rounds: int) -> list[int]:
    codes = []
    for gateway in gateways * num_rounds:
        gateway.terminate()
        codes.append(await gateway.wait())
        await gateway.start()
    return codes


async def test_rolling_restart_fails_no_session(gateways: list[GatewayProcess]) -> None:
    targets = [gateway.target for gateway in gateways]
    unbroken = await talk(targets, Got(), pause_s=0)
    # One that cannot end before all are restarted, beside short ones that may slip through.
    held, may_end = Got(), asyncio.Event()
    holding = asyncio.create_task(talk(targets, held, may_end=may_end))
    await until(held, 30)
    rolling = asyncio.create_task(restarted(gateways, 2))
    num_sessions = 0

    async def caller(order: list[str]) -> AsyncIterator[Got]:
        while not rolling.done():
            yield await talk(order, Got())

    async def load(order: list[str]) -> None:
        nonlocal num_sessions
        async for got in caller(order):
            assert_same(got, unbroken)
            num_sessions += 1

    await asyncio.gather(*(load(targets[::step]) for step in (1, -1, 1)))
    assert await rolling == [0] * 4
    assert num_sessions >= 3
    may_end.set()
    await holding
    assert held.num_moves >= 2
    assert_same(held, unbroken)
