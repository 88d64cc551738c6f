"""Every fault of every engine: what it ends, with which reason, and that all is well afterwards.

What it does to other sessions on the same engine is in `test_server.py`.
"""

from __future__ import annotations

import itertools

import pytest
from mirrorme.animate.v1 import animation_pb2 as pb
from mirrorme_engines.fake_engine import FakeFaults

from tests.service.gateway import (
    animate,
    audio,
    config,
    portrait_png,
    refusal,
    running_gateway,
    speech,
)
from tests.service.test_flow import nothing_left

pytestmark = pytest.mark.asyncio(loop_scope="session")

ROLES = ("identity_encoder", "audio_encoder", "denoiser", "decoder")
SPEECH = audio(speech(16_000))
seeds = itertools.count(1000)


def new_session() -> list[pb.StreamAnimateRequest]:
    """A second of speech with a portrait that no cache holds."""
    picture = portrait_png(next(seeds))
    return [
        config(portrait=pb.PortraitSource(image=picture, crop_mode=pb.CROP_MODE_CENTER)),
        SPEECH,
    ]


def mend(faults: FakeFaults) -> None:
    faults.release()
    faults.delay(0)
    faults.fail_next(0)
    faults.nan_next(0)


ENDING = {
    "error": (lambda faults: faults.fail_next(), "INTERNAL", "ENGINE_FAULT"),
    "NaN": (lambda faults: faults.nan_next(), "INTERNAL", "ENGINE_FAULT"),
    "hangs": (FakeFaults.hold, "UNAVAILABLE", "ENGINE_TIMEOUT"),
    "gone": (lambda faults: faults.gone_next(2), "UNAVAILABLE", "ENGINE_UNAVAILABLE"),
}


@pytest.mark.parametrize("kind", ENDING)
async def test_fault_ends_its_session_with_its_reason(kind: str) -> None:
    make, status, reason = ENDING[kind]
    timeout_s = 0.2 if kind == "hangs" else 10.0
    async with running_gateway(engine_timeout_s=timeout_s, engine_attempts=2) as gateway:
        for role in ROLES:
            if (kind, role) == ("NaN", "decoder"):
                continue  # pixels are whole numbers
            faults = getattr(gateway.engines, role).faults
            async with nothing_left(gateway):
                make(faults)
                told = await refusal(gateway.stub, new_session())
                assert (told.status, told.reason) == (status, reason), role
                assert bool(told.retry_delay_s) == (status == "UNAVAILABLE"), role
                mend(faults)
            labels = {"rpc": "StreamAnimate", "status": status, "reason": reason}
            assert gateway.metric("mirrorme_errors_total", **labels) >= 1


async def test_session_begins_well_after_each_fault() -> None:
    async with running_gateway(engine_timeout_s=10.0, engine_attempts=2) as gateway:
        for role, (make, status, _) in itertools.product(ROLES, ENDING.values()):
            if make is FakeFaults.hold or (status, role) == ("INTERNAL", "decoder"):
                continue  # its timeout is for the test above
            faults = getattr(gateway.engines, role).faults
            make(faults)
            await refusal(gateway.stub, new_session())
            mend(faults)
            assert len((await animate(gateway.stub, new_session())).frames) == 24


async def test_slow_engines_change_nothing_but_the_time() -> None:
    async with running_gateway() as gateway:
        requests = new_session()
        quick = await animate(gateway.stub, requests)
        for role in ROLES:
            getattr(gateway.engines, role).faults.delay(0.05)
        async with nothing_left(gateway):
            assert (await animate(gateway.stub, requests)).pixels == quick.pixels
        assert gateway.metric("mirrorme_engine_retries_total", engine="denoiser") == 0


@pytest.mark.parametrize("role", ROLES)
async def test_engine_that_comes_back_in_time_is_not_noticed(role: str) -> None:
    async with running_gateway(engine_attempts=3) as gateway:
        portrait = new_session()[0]
        undisturbed = await animate(gateway.stub, [portrait, SPEECH])
        # The identity encoder is asked for new portraits only.
        requests = new_session() if role == "identity_encoder" else [portrait, SPEECH]
        faults = getattr(gateway.engines, role).faults
        faults.gone_next(2)
        animation = await animate(gateway.stub, requests)
        assert len(animation.frames) == 24
        assert role == "identity_encoder" or animation.pixels == undisturbed.pixels
        name = getattr(gateway.engines, role).spec.name
        assert gateway.metric("mirrorme_engine_retries_total", engine=name) == 2
