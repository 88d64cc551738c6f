"""Bounds of a session that need no engine: acknowledgements, message rate; and the capacity."""

from __future__ import annotations

import asyncio
import time

import pytest
from mirrorme.animate.v1 import animation_pb2 as pb
from mirrorme_service.ack_window import AckWindow
from mirrorme_service.config import ServiceConfig
from mirrorme_service.errors import OutOfRange, TimedOut
from mirrorme_service.session_watchdog import SessionWatchdog

from tests.service.gateway import config, refusal, running_gateway
from tests.service.still_clock import StillClock


def test_window_of_frames_in_flight() -> None:
    acks = AckWindow(4)
    assert acks.room == 4
    acks.sent(0, 3)
    acks.sent(7, 8)  # frames between were left out
    assert acks.room == 0
    acks.acknowledge(1)
    assert acks.room == 2
    acks.acknowledge(0)
    assert acks.room == 2, "an old one changes nothing"
    acks.acknowledge(7)
    assert acks.room == 4
    with pytest.raises(OutOfRange):
        acks.acknowledge(8)
    acks.open()
    assert acks.room is None


def test_without_a_bound_there_is_always_room() -> None:
    acks = AckWindow(0)
    acks.sent(0, 1000)
    assert acks.room is None
    acks.acknowledge(5)


async def test_more_messages_than_allowed_are_read_more_slowly() -> None:
    clock = StillClock()
    watchdog = SessionWatchdog(ServiceConfig(max_requests_per_s=10), clock, is_live=True)
    for _ in range(20):
        await asyncio.wait_for(watchdog.took_request(), 1)
    late = asyncio.create_task(watchdog.took_request())
    await asyncio.sleep(0.05)
    assert not late.done()
    clock.move_to(clock.now_s() + 0.11)
    await asyncio.wait_for(late, 1)


async def test_write_that_stalls_ends_a_session_in_real_time() -> None:
    clock = StillClock()
    watchdog = SessionWatchdog(ServiceConfig(max_stall_s=5), clock, is_live=True)
    stuck = asyncio.Event()

    async def send(_response: pb.StreamAnimateResponse) -> None:
        await stuck.wait()

    writing = asyncio.create_task(watchdog.watched(send)(pb.StreamAnimateResponse()))
    watching = asyncio.create_task(watchdog.watch())
    for _ in range(40):
        await asyncio.sleep(0)
        clock.move_to(clock.now_s() + 0.2)
        await watchdog.took_request()  # it sends, and does not read
        await asyncio.sleep(0)
    with pytest.raises(TimedOut, match="nothing could be sent for 5 s"):
        await asyncio.wait_for(watching, 1)
    stuck.set()
    await writing


@pytest.mark.asyncio(loop_scope="session")
async def test_capacity_is_measured_where_none_is_set() -> None:
    async with running_gateway(max_sessions=0) as gateway:
        num_sessions = gateway.server.config.max_sessions
        assert num_sessions >= 1
        assert gateway.metric("mirrorme_sessions_capacity") == num_sessions
        answer = await gateway.stub.GetCapabilities(pb.GetCapabilitiesRequest())
        assert answer.limits.max_sessions == num_sessions
        assert answer.limits.max_audio_ahead.seconds == 120
        assert answer.limits.max_stall.seconds == 5
        assert answer.limits.max_requests_per_second == 1000


@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.parametrize("platform", ["onnxruntime", "triton"])
async def test_a_capacity_that_gateways_share_is_warned_of(
    platform: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with running_gateway(max_sessions=0, platform=platform):
        assert ("give each its part by --max-sessions" in caplog.text) == (platform == "triton")


@pytest.mark.asyncio(loop_scope="session")
async def test_one_over_capacity_is_told_the_counts() -> None:
    async with running_gateway(max_sessions=1) as gateway:
        call = gateway.stub.StreamAnimate()
        await call.write(config(pacing=pb.PACING_REAL_TIME))
        await call.read()
        started_s = time.perf_counter()
        error = await refusal(gateway.stub, [config()])
        assert time.perf_counter() - started_s < 5, "generous: no engine and no portrait is asked"
        assert (error.status, error.reason) == ("RESOURCE_EXHAUSTED", "SESSIONS_FULL")
        assert "1 of 1" in error.message
        assert error.retry_delay_s
        call.cancel()
