"""Connecting, and the calls that are not sessions."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import time
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2
from mirrorme.animate.v1 import animation_pb2 as pb
from mirrorme_client import AnimationClient, pcm_s16le
from mirrorme_client.errors import (
    AtCapacity,
    InvalidRequest,
    NotAllowed,
    NotFound,
    NotServed,
    ServerFault,
    ServerUnavailable,
    TimedOut,
    UnreadableInput,
    from_status,
)
from mirrorme_client.final_status import Status

from tests.client.fake_service import (
    PORTRAIT_ID,
    Behaviour,
    FakeAnimationService,
    at_capacity,
    serve,
    status,
)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def test_no_server() -> None:
    target = f"127.0.0.1:{free_port()}"
    start_s = time.monotonic()
    with pytest.raises(ServerUnavailable, match=f"{target}.*is it running") as raised:
        async with AnimationClient(target, connect_timeout_s=0.3):
            pytest.fail("it must not connect")
    assert time.monotonic() - start_s < 2
    assert raised.value.retryable


async def test_waits_for_a_server_that_starts_late() -> None:
    port = free_port()
    client = AnimationClient(f"127.0.0.1:{port}", connect_timeout_s=20)
    opening = asyncio.create_task(client.open())
    await asyncio.sleep(0.4)
    assert not opening.done()
    async with serve(FakeAnimationService(), port):
        await opening
        assert (await client.capabilities()).service_version == "9.9"
        await client.close()


async def test_register_and_animate_the_registered(tmp_path: Path) -> None:
    picture = tmp_path / "me.png"
    picture.write_bytes(b"\x89PNG me")
    service = FakeAnimationService()
    async with serve(service) as target, AnimationClient(target) as client:
        response = await client.register_portrait(picture, crop_mode=pb.CROP_MODE_FACE)
        assert response.already_known
        session = client.animate(response.portrait, audio_format=pcm_s16le(16000), audio=[])
        async with session:
            assert [batch async for batch in session] == []
    assert service.sessions[0].config.portrait.portrait_id == PORTRAIT_ID


async def test_idempotent_calls_are_tried_again() -> None:
    lost = status(grpc.StatusCode.UNAVAILABLE, "connection lost")
    service = FakeAnimationService(Behaviour(fail_unary=[lost, lost]))
    async with serve(service) as target, AnimationClient(target) as client:
        assert (await client.capabilities()).service_version == "9.9"
    assert service.num_unary_calls == 3


async def test_errors_of_the_server_carry_their_details(tmp_path: Path) -> None:
    service = FakeAnimationService()
    async with serve(service) as target, AnimationClient(target) as client:
        with pytest.raises(InvalidRequest, match="not a PNG") as raised:
            await client.register_portrait(b"GIF89a")
        assert raised.value.reason == "PICTURE_TYPE"
        assert str(raised.value) == "image is not a PNG, JPEG or WebP file"
        service.behaviour.fail_unary = [at_capacity("full", 0.5)]
        with pytest.raises(AtCapacity) as full:
            await client.capabilities()
        assert full.value.retry_delay_s == 0.5


async def test_a_call_that_takes_too_long() -> None:
    class Slow(FakeAnimationService):
        async def GetCapabilities(self, request, context):
            await asyncio.sleep(60)

    async with serve(Slow()) as target, AnimationClient(target, call_timeout_s=0.2) as client:
        with pytest.raises(TimedOut):
            await client.capabilities()


@pytest.mark.parametrize("content", [None, b""])
async def test_picture_file_that_cannot_be(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "me.png"
    if content is not None:
        path.write_bytes(content)
    async with serve(FakeAnimationService()) as target, AnimationClient(target) as client:
        with pytest.raises(UnreadableInput, match=r"me\.png"):
            await client.register_portrait(path)
        with pytest.raises(UnreadableInput, match=r"me\.png"):
            client.animate(path, audio_format=pcm_s16le(16000))


@pytest.mark.parametrize(
    ("code", "kind", "retryable"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, InvalidRequest, False),
        (grpc.StatusCode.FAILED_PRECONDITION, InvalidRequest, False),
        (grpc.StatusCode.OUT_OF_RANGE, InvalidRequest, False),
        (grpc.StatusCode.NOT_FOUND, NotFound, False),
        (grpc.StatusCode.UNIMPLEMENTED, NotServed, False),
        (grpc.StatusCode.UNAUTHENTICATED, NotAllowed, False),
        (grpc.StatusCode.PERMISSION_DENIED, NotAllowed, False),
        (grpc.StatusCode.UNAVAILABLE, ServerUnavailable, True),
        (grpc.StatusCode.DEADLINE_EXCEEDED, TimedOut, True),
        (grpc.StatusCode.INTERNAL, ServerFault, False),
        (grpc.StatusCode.UNKNOWN, ServerFault, False),
    ],
)
def test_kinds_of_errors(code: grpc.StatusCode, kind: type, retryable: bool) -> None:
    error = from_status(Status(code, ""))
    assert type(error) is kind
    assert error.retryable is retryable
    assert code.name in str(error)


def test_grpcs_own_words_are_explained() -> None:
    lost = from_status(Status(grpc.StatusCode.UNAVAILABLE, "Cancelling all calls"))
    assert str(lost) == "the connection to the server was lost (Cancelling all calls)"
    info = error_details_pb2.ErrorInfo(reason="DRAINING", domain="mirrorme.animate")
    packed = status(grpc.StatusCode.UNAVAILABLE, "draining", info)
    metadata = (("grpc-status-details-bin", packed.SerializeToString()),)
    assert str(from_status(Status(grpc.StatusCode.UNAVAILABLE, "draining", metadata))) == "draining"


def test_a_stream_that_a_proxy_reset_is_a_lost_connection() -> None:
    words = "Stream removed (RST_STREAM (Received RST_STREAM with error code 2))"
    for code in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN):
        assert type(from_status(Status(code, words))) is ServerUnavailable
    info = error_details_pb2.ErrorInfo(reason="INTERNAL_FAULT", domain="mirrorme.animate")
    packed = status(grpc.StatusCode.INTERNAL, words, info)
    metadata = (("grpc-status-details-bin", packed.SerializeToString()),)
    assert type(from_status(Status(grpc.StatusCode.INTERNAL, words, metadata))) is ServerFault


def test_details_that_are_not_a_status_are_ignored() -> None:
    metadata = (("grpc-status-details-bin", b"\xff\xff\xff"), ("other", "text"))
    error = from_status(Status(grpc.StatusCode.INTERNAL, "broken", metadata))
    assert str(error) == "broken"
    assert error.reason == ""


def test_violations_are_shown_where_the_message_lacks_them() -> None:
    violations = [
        error_details_pb2.BadRequest.FieldViolation(field="a.b", description="too large"),
        error_details_pb2.BadRequest.FieldViolation(field="c", description="bad"),
    ]
    detail = error_details_pb2.BadRequest(field_violations=violations)
    packed = status(grpc.StatusCode.INVALID_ARGUMENT, "bad config", detail)
    metadata = (("grpc-status-details-bin", packed.SerializeToString()),)
    error = from_status(Status(grpc.StatusCode.INVALID_ARGUMENT, "bad config", metadata))
    assert str(error).splitlines()[:2] == ["bad config", "  a.b: too large"]


def test_the_client_alone_needs_no_extra() -> None:
    program = (
        "import sys\n"
        "for name in ('av', 'click', 'numpy', 'rich'): sys.modules[name] = None\n"
        "import mirrorme_client\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
