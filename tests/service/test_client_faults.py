"""Clients that do not behave: others' sessions are as if alone, and what the client had is freed.

Clients that vanish, at each stage of a session, are in `test_flow.py`.
"""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import grpc
import pytest
from mirrorme.animate.v1 import animation_pb2 as pb
from mirrorme_service.session import Session

from tests.service.gateway import (
    SECOND,
    Gateway,
    animate,
    audio,
    config,
    new_channel,
    refusal,
    running_gateway,
    speech,
    until,
)
from tests.service.test_flow import Endless, nothing_left

pytestmark = pytest.mark.asyncio(loop_scope="session")

METHOD = "/mirrorme.animate.v1.AnimationService/StreamAnimate"
GARBAGE = b"\x12\xff"


def num_sessions_held() -> int:
    """Sessions in memory, running or not."""
    gc.collect()
    # Not isinstance: that asks every object of other libraries for its class, and some warn.
    return sum(type(it) is Session for it in gc.get_objects())


async def until_freed(gateway: Gateway) -> None:
    """Waits until no session is in memory. grpc.aio holds on to the last errors' frames, and so to
    their sessions, until later calls; a dozen of them at most, however many there were."""
    await gateway.until_idle()
    async with asyncio.timeout(30):
        while num_sessions_held():
            await animate(gateway.stub, [config()])


@asynccontextmanager
async def beside_a_good_session() -> AsyncIterator[Gateway]:
    """A gateway with a session that goes on while something else happens, and must not notice."""
    async with running_gateway(max_buffered_audio_s=2.0) as gateway:
        good = [config(seed=21), *(audio(speech(800, seed=i)) for i in range(60))]
        alone = await animate(gateway.stub, good)
        async with nothing_left(gateway):
            went_on = asyncio.Event()

            async def requests():
                for request in good[:30]:
                    yield request
                await went_on.wait()
                for request in good[30:]:
                    yield request

            beside = asyncio.create_task(animate(gateway.stub, requests()))
            yield gateway
            went_on.set()
            assert (await asyncio.wait_for(beside, 30)).pixels == alone.pixels
        await until_freed(gateway)


def frames_sent(gateway: Gateway) -> float:
    return gateway.metric("mirrorme_frames_sent_total", encoding="rgb24")


async def never_reads(gateway: Gateway, channel: grpc.aio.Channel) -> None:
    call = type(gateway.stub)(channel).StreamAnimate(Endless(speech(SECOND)).__aiter__())
    await call.read()
    await until(lambda: frames_sent(gateway) > 100)
    call.cancel()


async def reads_slowly(gateway: Gateway, channel: grpc.aio.Channel) -> None:
    call = type(gateway.stub)(channel).StreamAnimate(Endless(speech(SECOND)).__aiter__())
    for _ in range(40):
        await call.read()
        await asyncio.sleep(0.01)
    call.cancel()


async def vanishes(gateway: Gateway, channel: grpc.aio.Channel) -> None:
    call = type(gateway.stub)(channel).StreamAnimate(Endless(speech(SECOND)).__aiter__())
    await call.read()
    await channel.close()


async def sends_garbage(gateway: Gateway, channel: grpc.aio.Channel) -> None:
    call = channel.stream_stream(METHOD)()
    await call.write(config().SerializeToString())
    await call.read()
    await call.write(audio(speech(SECOND)).SerializeToString())
    await call.read()
    await call.write(GARBAGE)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        while await call.read() is not grpc.aio.EOF:
            pass
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def half_closes_early(gateway: Gateway, channel: grpc.aio.Channel) -> None:
    stub = type(gateway.stub)(channel)
    assert (await refusal(stub, [])).reason == "CONFIG_MISSING"
    assert not (await animate(stub, [config()])).frames
    assert len((await animate(stub, [config(), audio(speech(100))])).frames) == 1


CLIENTS = (never_reads, reads_slowly, vanishes, sends_garbage, half_closes_early)


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.__name__)
async def test_others_do_not_notice_and_all_is_freed(
    client: Callable[[Gateway, grpc.aio.Channel], Awaitable[None]],
) -> None:
    async with beside_a_good_session() as gateway, new_channel(gateway.server) as channel:
        await client(gateway, channel)
        await until(lambda: gateway.metric("mirrorme_sessions_active") == 1)


async def test_memory_of_a_client_that_never_reads_is_freed_within_5_s() -> None:
    """The client stays, and calls no more: nothing that it does frees anything."""
    # What fits into the transport is a second of video here, else 14.
    small_window = (("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 1 << 16))
    async with (
        running_gateway(max_stall_s=0.5) as gateway,
        grpc.aio.insecure_channel(f"127.0.0.1:{gateway.server.port}", small_window) as channel,
    ):

        async def requests():
            yield config(pacing=pb.PACING_REAL_TIME)
            await asyncio.Event().wait()

        calls = [type(gateway.stub)(channel).StreamAnimate(requests()) for _ in range(3)]
        sent = "mirrorme_frames_sent_total"
        await until(lambda: gateway.metric(sent, encoding="rgb24") >= len(calls), timeout_s=60)
        held = [weakref.ref(it) for it in gc.get_objects() if type(it) is Session]
        assert held
        await until(lambda: not gateway.metric("mirrorme_sessions_active"), timeout_s=60)
        gc.collect()
        await until(lambda: not any(session() for session in held), timeout_s=5)
        for call in calls:
            call.cancel()


async def test_all_of_them_at_once() -> None:
    async with beside_a_good_session() as gateway:

        async def one(client: Callable[[Gateway, grpc.aio.Channel], Awaitable[None]]) -> None:
            async with new_channel(gateway.server) as channel:
                await client(gateway, channel)

        await asyncio.gather(*(one(client) for client in CLIENTS))
        await until(lambda: gateway.metric("mirrorme_sessions_active") == 1)
