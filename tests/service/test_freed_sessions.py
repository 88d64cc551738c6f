"""What a session held is free when it ends, however it ends, and not when Python looks for cycles.

That is seldom: hundreds of sessions would lie about, with their frames and audio.
"""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from mirrorme.animate.v1 import animation_pb2 as pb
from mirrorme_service.session import Session

from tests.service.gateway import (
    SECOND,
    Gateway,
    animate,
    audio,
    config,
    refusal,
    running_gateway,
    speech,
    until,
)

LIVE = config(pacing=pb.PACING_REAL_TIME)
INTERRUPT = pb.StreamAnimateRequest(interrupt=pb.Interrupt())
SPEECH = audio(speech(SECOND // 2))


@pytest_asyncio.fixture
async def gateway() -> AsyncIterator[Gateway]:
    async with running_gateway(max_audio_ahead_s=1.0, max_buffered_audio_s=0.5) as gateway:
        await animate(gateway.stub, [config()])
        yield gateway


@pytest.fixture(autouse=True)
def no_collections(gateway: Gateway) -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def num_sessions() -> int:
    # Not isinstance: that asks every object of other libraries for its class, and some warn.
    return sum(type(it) is Session for it in gc.get_objects())


@pytest.mark.parametrize(
    "requests",
    [
        pytest.param([config(), SPEECH], id="fast"),
        pytest.param([LIVE, SPEECH, INTERRUPT, SPEECH], id="live"),
        pytest.param([config(resumable=True), SPEECH], id="resumable"),
    ],
)
async def test_after_its_end(gateway: Gateway, requests: list[pb.StreamAnimateRequest]) -> None:
    await animate(gateway.stub, requests)
    await until(lambda: not num_sessions())


@pytest.mark.parametrize("first", [config(), LIVE], ids=["fast", "live"])
async def test_after_its_client_vanished(gateway: Gateway, first: pb.StreamAnimateRequest) -> None:
    async def requests() -> AsyncIterator[pb.StreamAnimateRequest]:
        yield first
        yield SPEECH
        await until(lambda: False, 60)

    call = gateway.stub.StreamAnimate(requests())
    while not (await call.read()).HasField("frames"):
        assert num_sessions() == 1
    call.cancel()
    await until(lambda: not num_sessions())


@pytest.mark.parametrize("first", [config(), LIVE], ids=["fast", "live"])
async def test_after_an_error(gateway: Gateway, first: pb.StreamAnimateRequest) -> None:
    told = await refusal(gateway.stub, [first, SPEECH, audio(b"odd")])
    assert told.reason == "AUDIO_TRUNCATED_SAMPLE"
    await until(lambda: not num_sessions())


async def test_after_an_engine_failed(gateway: Gateway) -> None:
    gateway.engines.denoiser.faults.fail_next(10)
    told = await refusal(gateway.stub, [config(), audio(speech(SECOND))])
    assert told.reason == "ENGINE_FAULT"
    await until(lambda: not num_sessions())
