"""Consent tokens: each portrait needs one that names it, before it is decoded or encoded."""

from __future__ import annotations

import hashlib
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import jwt
import pytest
import pytest_asyncio
from mirrorme.animate.v1 import animation_pb2 as pb

from tests.service.gateway import (
    Gateway,
    animate,
    as_refusal,
    audio,
    config,
    portrait_png,
    refusal,
    running_gateway,
    speech,
)

SECRET = b"a secret of the keeper of consents, long enough"
PORTRAIT = portrait_png()
CENTER = pb.CROP_MODE_CENTER


def token(*portraits: str, **claims: Any) -> str:
    named = list(portraits) if len(portraits) > 1 else portraits[0]
    content = {"aud": "mirrorme.consent", "exp": time.time() + 86_400, "portrait": named}
    return jwt.encode({**content, **claims}, SECRET, "HS256")


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest_asyncio.fixture
async def asking(tmp_path: Path) -> AsyncIterator[Gateway]:
    """A gateway that asks for consent."""
    (tmp_path / "keys").write_bytes(SECRET)
    async with running_gateway(consent_keys=tmp_path / "keys") as gateway:
        yield gateway


def registering(consent: str) -> pb.RegisterPortraitRequest:
    return pb.RegisterPortraitRequest(image=PORTRAIT, crop_mode=CENTER, consent_token=consent)


async def test_a_token_for_the_file_lets_it_be_animated(asking: Gateway) -> None:
    consent = token("0" * 64, sha256(PORTRAIT))
    animation = await animate(asking.stub, [config(consent_token=consent), audio(speech(16_000))])
    assert len(animation.frames) == 24
    assert animation.started is not None
    # Nobody else needs to see it.
    assert not animation.started.effective_config.consent_token


async def test_a_registered_portrait_needs_one_for_its_id(asking: Gateway) -> None:
    answer = await asking.stub.RegisterPortrait(registering(token(sha256(PORTRAIT))))
    portrait_id = answer.portrait.portrait_id
    by_id = {"portrait": pb.PortraitSource(portrait_id=portrait_id)}
    error = await refusal(asking.stub, [config(**by_id, consent_token=token(sha256(PORTRAIT)))])
    assert (error.status, error.reason) == ("PERMISSION_DENIED", "CONSENT_OTHER")
    await animate(asking.stub, [config(**by_id, consent_token=token(portrait_id))])


@pytest.mark.parametrize(
    ("consent", "reason"),
    [
        ("", "CONSENT_MISSING"),
        ("no token", "CONSENT_INVALID"),
        (token(sha256(b"another picture")), "CONSENT_OTHER"),
        (token(sha256(PORTRAIT), exp=time.time() - 300), "CONSENT_EXPIRED"),
        (token(sha256(PORTRAIT), aud="mirrorme"), "CONSENT_INVALID"),
        (token(sha256(PORTRAIT), portrait=None), "CONSENT_INVALID"),
        (token(sha256(PORTRAIT), portrait={"all": True}), "CONSENT_OTHER"),
        (
            jwt.encode(
                {"aud": "mirrorme.consent", "exp": 2e9, "portrait": sha256(PORTRAIT)},
                b"the secret of somebody else, long enough too",
                "HS256",
            ),
            "CONSENT_INVALID",
        ),
    ],
)
async def test_without_it_nothing_is_done(asking: Gateway, consent: str, reason: str) -> None:
    error = await refusal(asking.stub, [config(consent_token=consent)])
    assert (error.status, error.reason) == ("PERMISSION_DENIED", reason)
    assert error.field == "config.consent_token"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await asking.stub.RegisterPortrait(registering(consent))
    assert as_refusal(caught.value).reason == reason
    assert (
        asking.metric("mirrorme_engine_calls_total", engine="identity_encoder", outcome="ok") == 0
    )
    assert not consent or consent not in error.message


async def test_capabilities_tell_whether_it_is_asked_for(asking: Gateway) -> None:
    async with running_gateway() as other:
        for server, unserved in ((asking, False), (other, True)):
            answer = await server.stub.GetCapabilities(pb.GetCapabilitiesRequest())
            assert ("config.consent_token" in answer.unimplemented_fields) is unserved


async def test_a_portrait_to_change_to_needs_it_too(asking: Gateway) -> None:
    other = portrait_png(seed=1)
    change = pb.ChangePortrait(portrait=pb.PortraitSource(image=other, crop_mode=CENTER))

    def requests(consent: str) -> list[pb.StreamAnimateRequest]:
        spoken = audio(speech(8000))
        changing = pb.StreamAnimateRequest(change_portrait=change)
        return [config(consent_token=consent), spoken, changing, spoken]

    both = await animate(asking.stub, requests(token(sha256(PORTRAIT), sha256(other))))
    assert "portrait_changed" in [event.WhichOneof("event") for event in both.events]
    error = await refusal(asking.stub, requests(token(sha256(PORTRAIT))))
    assert (error.status, error.reason) == ("PERMISSION_DENIED", "CONSENT_OTHER")
