"""TLS and mutual TLS on the service's port, and certificates that change while it serves."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
import trustme
from grpc_health.v1 import health_pb2, health_pb2_grpc
from mirrorme.animate.v1 import animation_pb2 as pb
from mirrorme.animate.v1 import animation_pb2_grpc
from mirrorme_service.grpc_ports import StartError

from tests.service.certificates import HOST, LONG_AGO, ServerFiles, client_credentials
from tests.service.gateway import (
    Gateway,
    animate,
    as_refusal,
    audio,
    config,
    refusal,
    running_gateway,
    speech,
)


@pytest.fixture
def ca() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def files(tmp_path: Path, ca: trustme.CA) -> ServerFiles:
    written = ServerFiles(tmp_path)
    written.write(ca)
    return written


@asynccontextmanager
async def channel(
    gateway: Gateway, credentials: grpc.ChannelCredentials
) -> AsyncIterator[grpc.aio.Channel]:
    """A connection of its own."""
    options = (("grpc.use_local_subchannel_pool", 1),)
    address = f"{HOST}:{gateway.server.port}"
    async with grpc.aio.secure_channel(address, credentials, options) as opened:
        yield opened


async def last_read(call) -> pb.StreamAnimateResponse:
    """The last response of a call that ends well."""
    last = pb.StreamAnimateResponse()
    while (answer := await call.read()) is not grpc.aio.EOF:
        last = answer
    return last


async def outcome(gateway: Gateway, credentials: grpc.ChannelCredentials) -> str:
    """OK, or how a call fails."""
    async with channel(gateway, credentials) as opened:
        stub = animation_pb2_grpc.AnimationServiceStub(opened)
        try:
            await stub.GetCapabilities(pb.GetCapabilitiesRequest())
        except grpc.aio.AioRpcError as error:
            return as_refusal(error).reason or error.code().name
    return "OK"


async def test_a_session_over_tls(files: ServerFiles, ca: trustme.CA) -> None:
    async with running_gateway(**files.settings) as gateway:
        async with channel(gateway, client_credentials(ca)) as opened:
            stub = animation_pb2_grpc.AnimationServiceStub(opened)
            animation = await animate(stub, [config(), audio(speech(16_000))])
        assert len(animation.frames) == 24
        assert await outcome(gateway, client_credentials(trustme.CA())) == "UNAVAILABLE"
        with pytest.raises(grpc.aio.AioRpcError, match="UNAVAILABLE"):  # plaintext
            await gateway.stub.GetCapabilities(pb.GetCapabilitiesRequest())


async def test_health_and_metrics_stay_in_plaintext(files: ServerFiles) -> None:
    async with running_gateway(**files.mutual_settings, health_port=0) as gateway:
        async with grpc.aio.insecure_channel(f"{HOST}:{gateway.server.health_port}") as probe:
            answer = await health_pb2_grpc.HealthStub(probe).Check(
                health_pb2.HealthCheckRequest(service="")
            )
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
            with pytest.raises(grpc.aio.AioRpcError, match="UNIMPLEMENTED"):
                stub = animation_pb2_grpc.AnimationServiceStub(probe)
                await stub.GetCapabilities(pb.GetCapabilitiesRequest())
        expiry = gateway.metric("mirrorme_certificate_expiry_timestamp_seconds")
        assert expiry > datetime.now(UTC).timestamp()


async def test_mutual_tls_lets_in_its_own_clients_only(files: ServerFiles, ca: trustme.CA) -> None:
    async with running_gateway(**files.mutual_settings) as gateway:
        assert await outcome(gateway, client_credentials(ca, ca)) == "OK"
        for refused in (
            client_credentials(ca),
            client_credentials(ca, trustme.CA()),
            client_credentials(ca, ca, **LONG_AGO),
        ):
            assert await outcome(gateway, refused) == "UNAVAILABLE"


async def test_a_certificate_of_another_name_may_not_call(
    files: ServerFiles, ca: trustme.CA
) -> None:
    settings = {**files.mutual_settings, "tls_client_names": "shop.example.org, kiosk"}
    async with running_gateway(**settings) as gateway:
        for name in ("shop.example.org", "kiosk"):
            assert await outcome(gateway, client_credentials(ca, ca, name)) == "OK"
        stranger = client_credentials(ca, ca, "stranger.example.org")
        assert await outcome(gateway, stranger) == "CERTIFICATE_NOT_ALLOWED"
        async with channel(gateway, stranger) as opened:
            stub = animation_pb2_grpc.AnimationServiceStub(opened)
            error = await refusal(stub, [config()])
            assert (error.status, error.reason) == ("PERMISSION_DENIED", "CERTIFICATE_NOT_ALLOWED")
            request = pb.RegisterPortraitRequest(image=b"anything")
            with pytest.raises(grpc.aio.AioRpcError, match="PERMISSION_DENIED"):
                await stub.RegisterPortrait(request)
        assert gateway.metric("mirrorme_identity_lookups_total", result="miss") == 0


async def test_changed_certificates_are_used_by_new_connections(
    files: ServerFiles, ca: trustme.CA
) -> None:
    new_ca = trustme.CA()
    async with (
        running_gateway(**files.mutual_settings) as gateway,
        channel(gateway, client_credentials(ca, ca)) as opened,
    ):
        stub = animation_pb2_grpc.AnimationServiceStub(opened)
        call = stub.StreamAnimate()
        await call.write(config())
        assert (await call.read()).HasField("started")

        later = datetime.now(UTC) + timedelta(days=9)
        files.write(new_ca, not_after=later)
        assert await outcome(gateway, client_credentials(new_ca, new_ca)) == "OK"
        assert await outcome(gateway, client_credentials(ca, ca)) == "UNAVAILABLE"
        assert await outcome(gateway, client_credentials(new_ca, ca)) == "UNAVAILABLE"
        expiry = gateway.metric("mirrorme_certificate_expiry_timestamp_seconds")
        assert abs(expiry - later.timestamp()) < 2

        # What runs goes on.
        await call.write(audio(speech(16_000)))
        await call.done_writing()
        assert (await last_read(call)).summary.num_frames == 24


async def test_half_changed_certificates_leave_the_old_ones_in_use(
    files: ServerFiles, ca: trustme.CA
) -> None:
    failed = {"outcome": "failed"}
    async with running_gateway(**files.settings) as gateway:
        key = (files.folder / "tls.key").read_bytes()
        for content in (trustme.CA().issue_cert(HOST).private_key_pem.bytes(), b"", b"junk"):
            (files.folder / "tls.key").write_bytes(content)
            assert await outcome(gateway, client_credentials(ca)) == "OK"
        assert gateway.metric("mirrorme_certificate_reloads_total", **failed) == 3
        (files.folder / "tls.key").unlink()
        assert await outcome(gateway, client_credentials(ca)) == "OK"
        (files.folder / "tls.key").write_bytes(key)
        assert await outcome(gateway, client_credentials(ca)) == "OK"
        assert gateway.metric("mirrorme_certificate_reloads_total", **failed) == 4


@pytest.mark.parametrize("broken", ["tls.crt", "tls.key", "ca.crt"])
async def test_a_server_does_not_start_with_broken_certificates(
    files: ServerFiles, broken: str
) -> None:
    (files.folder / broken).write_bytes(b"-----BEGIN CERTIFICATE-----\nAAAA\n")
    with pytest.raises(StartError, match="cannot speak TLS"):
        async with running_gateway(**files.mutual_settings):
            pass
