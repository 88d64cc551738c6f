"""The client and its command line against a gateway that asks for certificates and tokens."""

from __future__ import annotations

import asyncio
import hashlib
import os
import sys
from pathlib import Path

import grpc
import pytest
import trustme
from mirrorme.animate.v1 import animation_pb2 as pb
from mirrorme_client import AnimationClient, Credentials, pcm_s16le
from mirrorme_client.errors import NotAllowed, UnreadableInput

from tests.service.certificates import LONG_AGO, ServerFiles
from tests.service.gateway import portrait_png, running_gateway, speech

TOKEN = "0f8fad5bd9cb469fa165708672895076"


def write_client(folder: Path, ca: trustme.CA, issuer: trustme.CA, **options) -> Credentials:
    leaf = issuer.issue_cert("client.example.org", **options)
    files = {
        "client.crt": b"".join(pem.bytes() for pem in leaf.cert_chain_pems),
        "client.key": leaf.private_key_pem.bytes(),
        "trusted.crt": ca.cert_pem.bytes(),
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return Credentials(
        token=TOKEN,
        ca=folder / "trusted.crt",
        certificate=folder / "client.crt",
        key=folder / "client.key",
    )


@pytest.fixture
def ca() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def settings(tmp_path: Path, ca: trustme.CA) -> dict:
    """A gateway's, with mutual TLS and tokens."""
    files = ServerFiles(tmp_path)
    files.write(ca)
    digest = hashlib.sha256(TOKEN.encode()).hexdigest()
    tokens = tmp_path / "tokens.toml"
    tokens.write_text(f'[[token]]\nname = "me"\nsha256 = "{digest}"\n')
    return {**files.mutual_settings, "tokens": tokens}


async def test_a_session_with_certificate_and_token(
    tmp_path: Path, ca: trustme.CA, settings: dict
) -> None:
    credentials = write_client(tmp_path, ca, ca)
    assert TOKEN not in repr(credentials)
    async with running_gateway(**settings) as gateway:
        target = f"127.0.0.1:{gateway.server.port}"
        async with AnimationClient(target, credentials=credentials) as client:
            await client.capabilities()
            session = client.animate(
                portrait_png(),
                audio_format=pcm_s16le(16_000),
                audio=[speech(16_000)],
                crop_mode=pb.CROP_MODE_CENTER,
            )
            async with session:
                num_frames = sum([len(batch.frames) async for batch in session])
            assert num_frames == 24
        wrong = Credentials(
            "wrong", ca=credentials.ca, certificate=credentials.certificate, key=credentials.key
        )
        async with AnimationClient(target, credentials=wrong) as client:
            with pytest.raises(NotAllowed) as caught:
                await client.capabilities()
        assert caught.value.code is grpc.StatusCode.UNAUTHENTICATED
        assert caught.value.reason == "TOKEN_INVALID"


@pytest.mark.parametrize("kind", ["missing", "foreign", "expired", "untrusted server"])
async def test_certificates_that_do_not_fit(
    tmp_path: Path, ca: trustme.CA, settings: dict, kind: str
) -> None:
    trusted = trustme.CA() if kind == "untrusted server" else ca
    issuer = trustme.CA() if kind == "foreign" else ca
    good = write_client(tmp_path, trusted, issuer, **(LONG_AGO if kind == "expired" else {}))
    credentials = Credentials(TOKEN, ca=good.ca) if kind == "missing" else good
    async with running_gateway(**settings) as gateway:
        client = AnimationClient(
            f"127.0.0.1:{gateway.server.port}", credentials=credentials, connect_timeout_s=3
        )
        with pytest.raises(NotAllowed, match="certificate"):
            await client.open()


def test_credentials_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="go together"):
        Credentials(certificate=tmp_path / "a")
    for token in ("a b", "a\nb", "ä"):
        with pytest.raises(ValueError, match="characters") as caught:
            Credentials(token)
        assert token not in str(caught.value)
    with pytest.raises(UnreadableInput, match="nowhere"):
        Credentials(ca=tmp_path / "nowhere").to_channel_credentials()


async def test_the_command_line(tmp_path: Path, ca: trustme.CA, settings: dict) -> None:
    credentials = write_client(tmp_path, ca, ca)
    environment = {
        "MIRRORME_CA": str(credentials.ca),
        "MIRRORME_CLIENT_CERTIFICATE": str(credentials.certificate),
        "MIRRORME_CLIENT_KEY": str(credentials.key),
    }

    async def info(*arguments: str, **more: str) -> tuple[int | None, str]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "mirrorme_client", "info", "--connect-timeout", "30"),
            *("--server", f"127.0.0.1:{gateway.server.port}", *arguments),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, **environment, **more},
        )
        out, _ = await process.communicate()
        assert b"Traceback" not in out
        return process.returncode, out.decode()

    (tmp_path / "token").write_text(f"{TOKEN}\n")
    async with running_gateway(**settings) as gateway:
        code, out = await info("--token-file", str(tmp_path / "token"))
        assert code == 0, out
        code, out = await info(MIRRORME_TOKEN=TOKEN)
        assert code == 0, out
        code, out = await info()
        assert code == 1
        assert "asks for a token" in out
        code, out = await info("--token", "wrong-" + TOKEN)
        assert code == 1
        assert "refused" in out
        assert TOKEN not in out
