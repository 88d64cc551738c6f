"""Engines that fail under a session in real time: it ends with the reason, and no other does."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from mirrorme.animate.v1 import animation_pb2 as pb
from mirrorme_engines.fake_manifest import fake_manifest

from tests.service.gateway import (
    SECOND,
    animate,
    audio,
    config,
    refusal,
    running_gateway,
    speech,
)
from tests.service.live_session import live_session
from tests.service.still_clock import StillClock

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.mark.parametrize(
    ("fault", "status", "reason"),
    [
        ("fails", "INTERNAL", "ENGINE_FAULT"),
        ("gives NaN", "INTERNAL", "ENGINE_FAULT"),
        ("hangs", "UNAVAILABLE", "ENGINE_TIMEOUT"),
        ("is gone", "UNAVAILABLE", "ENGINE_UNAVAILABLE"),
    ],
)
async def test_engine_that(fault: str, status: str, reason: str) -> None:
    settings = {"engine_timeout_s": 0.3, "engine_attempts": 2}
    async with running_gateway(**settings) as gateway:
        denoiser = gateway.engines.denoiser
        match fault:
            case "fails":
                denoiser.faults.fail_next()
            case "gives NaN":
                denoiser.faults.nan_next()
            case "hangs":
                denoiser.faults.hold()
            case "is gone":
                await denoiser.close()
        requests = [config(pacing=pb.PACING_REAL_TIME), audio(speech(SECOND))]
        error = await asyncio.wait_for(refusal(gateway.stub, requests), 20)
        assert (error.status, error.reason) == (status, reason)
        assert bool(error.retry_delay_s) == (status == "UNAVAILABLE")
        await gateway.until_idle()


@pytest.mark.parametrize("role", ["audio_encoder", "denoiser", "decoder"])
async def test_engine_that_hangs_is_given_up_sooner_than_by_other_sessions(role: str) -> None:
    settings = {"engine_timeout_s": 60, "live_engine_timeout_s": 0.2, "engine_attempts": 2}
    async with running_gateway(**settings) as gateway:
        getattr(gateway.engines, role).faults.hold()
        requests = [config(pacing=pb.PACING_REAL_TIME), audio(speech(SECOND))]
        error = await asyncio.wait_for(refusal(gateway.stub, requests), 20)
        assert (error.status, error.reason) == ("UNAVAILABLE", "ENGINE_TIMEOUT")


async def test_fault_of_one_session_leaves_the_others_frames_as_they_are() -> None:
    """Loud speech breaks the engine; the quiet sessions go on."""
    loud = audio(np.full(SECOND, 32767, "<i2").tobytes())
    async with running_gateway() as gateway:
        quiet = [config(), *(audio(speech(1000, seed=i)) for i in range(40))]
        alone = await animate(gateway.stub, quiet)
        faults = gateway.engines.denoiser.faults
        faults.fail_when(lambda inputs: inputs["audio_tokens"].max() > 0.9)
        live = refusal(gateway.stub, [config(pacing=pb.PACING_REAL_TIME), loud])
        beside, error = await asyncio.gather(animate(gateway.stub, quiet), live)
        assert error.reason == "ENGINE_FAULT"
        assert beside.pixels == alone.pixels


async def test_engine_that_fails_once_and_may_be_asked_again_changes_nothing() -> None:
    clock = StillClock()
    settings = {"engine_timeout_s": 0.5, "engine_attempts": 5}
    frames = []
    for disturbed in (False, True):
        async with (
            running_gateway(clock=clock, **settings) as gateway,
            live_session(gateway, clock) as session,
        ):
            await session.call.write(audio(speech(SECOND)))
            await session.play(0, 4)
            if disturbed:
                gateway.engines.decoder.faults.hold()
                await asyncio.sleep(0.6)
                gateway.engines.decoder.faults.release()
            await session.play(4, 24)
            frames.append(session.seen.pixels[:24])
    assert frames[0] == frames[1]


async def test_denoiser_with_fewer_steps_takes_the_place_of_one_that_fails() -> None:
    async with running_gateway(fake_manifest(num_steps=(4, 1))) as gateway:
        gateway.engines.denoiser.faults.fail_next()
        animation = await animate(gateway.stub, [config(), audio(speech(SECOND))])
        assert len(animation.frames) == 24
        levels = [
            (event.frame_index, event.degraded.level)
            for event in animation.events
            if event.HasField("degraded")
        ]
        none, fewer = pb.DEGRADATION_LEVEL_NONE, pb.DEGRADATION_LEVEL_FEWER_STEPS
        assert levels == [(0, fewer), (8, none)]
        assert len(gateway.engines.other_denoisers[0].faults.batch_sizes) == 1
