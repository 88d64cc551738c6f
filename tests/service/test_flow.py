"""Slow, silent and vanishing clients: memory stays bounded, and what a session held is freed."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest
from mirrorme.animate.v1 import animation_pb2 as pb

from tests.service.gateway import (
    SECOND,
    Gateway,
    animate,
    audio,
    config,
    new_channel,
    portrait_png,
    refusal,
    running_gateway,
    speech,
    until,
)

pytestmark = pytest.mark.asyncio(loop_scope="session")


def running_tasks() -> set[asyncio.Task]:
    """All tasks but gRPC's own: those that wait for the next call, and its clients'."""
    grpcs = ("AioServer._request", "grpc/aio/_call.py")
    return {task for task in asyncio.all_tasks() if not any(own in repr(task) for own in grpcs)}


@asynccontextmanager
async def nothing_left(gateway: Gateway) -> AsyncIterator[None]:
    """Checks that what happens inside frees all that it took, soon after."""
    tasks = running_tasks()
    yield
    try:
        await gateway.until_idle()
        for engine in gateway.engines.engines:
            engine.faults.release()
        await until(lambda: running_tasks() <= tasks)
    except TimeoutError:
        left = [repr(task) for task in running_tasks() - tasks]
        raise AssertionError("still there:\n" + "\n".join(left)) from None
    assert gateway.metric("mirrorme_sessions_active") == 0


class Endless:
    """Requests of a session that goes on; counts what was taken."""

    def __init__(self, piece: bytes, *, pause_s: float = 0.0) -> None:
        self.num_sent = 0
        self._piece = piece
        self._pause_s = pause_s

    def count(self) -> int:
        return self.num_sent

    async def __aiter__(self) -> AsyncIterator[pb.StreamAnimateRequest]:
        yield config()
        while True:
            yield audio(self._piece)
            self.num_sent += 1
            await asyncio.sleep(self._pause_s)


async def until_steady(value) -> int:
    """Waits until a number stops growing."""
    before = -1
    while value() != before:
        before = value()
        await asyncio.sleep(0.5)
    return before


async def test_client_that_does_not_read_is_not_read() -> None:
    """With engines that hang, no more audio is taken than may wait, whatever the message size."""
    for seconds_a_message in (0.1, 1, 20):
        async with running_gateway(max_buffered_audio_s=5.0) as gateway:
            gateway.engines.denoiser.faults.hold()
            requests = Endless(speech(int(seconds_a_message * SECOND)))
            async with new_channel(gateway.server) as channel:
                stub = type(gateway.stub)(channel)
                call = stub.StreamAnimate(requests.__aiter__())
                await call.read()
                await until_steady(requests.count)
                ring_samples = await until_steady(held_samples)
                call.cancel()
            await gateway.until_idle()
        # What may wait, a chunk at each step, the window, and a part of a message.
        assert ring_samples <= 9 * SECOND, seconds_a_message


def held_samples() -> int:
    from mirrorme_service.pcm_ring import PcmRing

    # Not isinstance: that asks every object of other libraries for its class, and some warn.
    rings = [ring for ring in gc.get_objects() if type(ring) is PcmRing]
    return max(ring.end_sample - ring.start_sample for ring in rings)


async def test_slow_reader_slows_its_own_session_only() -> None:
    async with running_gateway(max_buffered_audio_s=2.0) as gateway, nothing_left(gateway):
        requests = Endless(speech(SECOND))
        async with new_channel(gateway.server) as channel:
            call = type(gateway.stub)(channel).StreamAnimate(requests.__aiter__())
            await call.read()
            await until_steady(
                lambda: gateway.metric("mirrorme_frames_sent_total", encoding="rgb24")
            )
            before = gateway.metric("mirrorme_frames_sent_total", encoding="rgb24")
            other = await animate(gateway.stub, [config(), audio(speech(SECOND))])
            assert len(other.frames) == 24
            for _ in range(400):
                await call.read()
            after = gateway.metric("mirrorme_frames_sent_total", encoding="rgb24")
            assert after > before + 24, "the session goes on when it is read"
            call.cancel()


async def vanish_before_config(gateway: Gateway, call) -> None:
    await asyncio.sleep(0.05)


async def vanish_while_encoding_the_portrait(gateway: Gateway, call) -> None:
    faults = gateway.engines.identity_encoder.faults
    faults.hold()
    num_runs = len(faults.batch_sizes)
    await call.write(config(portrait=new_portrait()))
    await until(lambda: len(faults.batch_sizes) > num_runs)


async def vanish_after_config(gateway: Gateway, call) -> None:
    await call.write(config())
    await call.read()


async def vanish_in_the_audio(gateway: Gateway, call) -> None:
    await vanish_after_config(gateway, call)
    await call.write(audio(speech(100)))


async def vanish_in_the_audio_encoder(gateway: Gateway, call) -> None:
    await held_in(gateway, call, gateway.engines.audio_encoder)


async def vanish_in_the_denoiser(gateway: Gateway, call) -> None:
    await held_in(gateway, call, gateway.engines.denoiser)


async def vanish_in_the_decoder(gateway: Gateway, call) -> None:
    await held_in(gateway, call, gateway.engines.decoder)


async def vanish_while_reading_frames(gateway: Gateway, call) -> None:
    await vanish_after_config(gateway, call)
    await call.write(audio(speech(60 * SECOND)))
    await call.read()
    await call.read()


async def vanish_after_half_close(gateway: Gateway, call) -> None:
    await vanish_after_config(gateway, call)
    await call.write(audio(speech(60 * SECOND)))
    await call.done_writing()
    await call.read()


async def held_in(gateway: Gateway, call, engine) -> None:
    await vanish_after_config(gateway, call)
    engine.faults.hold()
    num_runs = len(engine.faults.batch_sizes)
    await call.write(audio(speech(2 * SECOND)))
    await until(lambda: len(engine.faults.batch_sizes) > num_runs)


def new_portrait() -> pb.PortraitSource:
    return pb.PortraitSource(image=portrait_png(99), crop_mode=pb.CROP_MODE_CENTER)


STAGES = [
    vanish_before_config,
    vanish_while_encoding_the_portrait,
    vanish_after_config,
    vanish_in_the_audio,
    vanish_in_the_audio_encoder,
    vanish_in_the_denoiser,
    vanish_in_the_decoder,
    vanish_while_reading_frames,
    vanish_after_half_close,
]


@pytest.mark.parametrize("way", ["cancel", "disconnect"])
async def test_client_gone_at_each_stage(way: str) -> None:
    async with running_gateway(max_sessions=1) as gateway:
        for number, stage in enumerate(STAGES):
            async with nothing_left(gateway):
                async with new_channel(gateway.server) as channel:
                    call = type(gateway.stub)(channel).StreamAnimate()
                    await asyncio.wait_for(stage(gateway, call), 5)
                    if way == "cancel":
                        call.cancel()
                        await asyncio.sleep(0)
                await asyncio.sleep(0)
            # gRPC may end the stream of requests before it says that the client is gone.
            ended = [
                gateway.metric("mirrorme_sessions_total", outcome=outcome)
                for outcome in ("cancelled", "refused")
            ]
            assert sum(ended) == number + 1, stage.__name__
            # The place is free, and the engines serve.
            animation = await animate(gateway.stub, [config(), audio(speech(SECOND))])
            assert len(animation.frames) == 24
        assert not gateway.metric("mirrorme_sessions_total", outcome="failed")
        assert not [t for t in threading.enumerate() if "session" in t.name]


async def test_silent_client_is_ended() -> None:
    async with running_gateway(max_idle_s=0.3) as gateway, nothing_left(gateway):
        call = gateway.stub.StreamAnimate()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED

        async def silent():
            yield config()
            yield audio(speech(100))
            await asyncio.sleep(60)

        error = await refusal(gateway.stub, silent())
        assert (error.status, error.reason) == ("DEADLINE_EXCEEDED", "SESSION_IDLE")


async def test_client_that_never_reads_is_ended() -> None:
    async with (
        running_gateway(max_idle_s=0.5) as gateway,
        nothing_left(gateway),
        new_channel(gateway.server) as channel,
    ):
        call = type(gateway.stub)(channel).StreamAnimate(Endless(speech(SECOND)).__aiter__())
        await call.read()
        await gateway.until_idle()
        labels = {
            "rpc": "StreamAnimate",
            "status": "DEADLINE_EXCEEDED",
            "reason": "CLIENT_NOT_READING",
        }
        assert gateway.metric("mirrorme_errors_total", **labels) == 1
        call.cancel()


async def test_active_session_is_not_idle() -> None:
    async with running_gateway(max_idle_s=0.4) as gateway:

        async def steady():
            yield config()
            for _ in range(12):
                yield audio(speech(160))
                await asyncio.sleep(0.1)

        assert len((await animate(gateway.stub, steady())).frames) == 3
