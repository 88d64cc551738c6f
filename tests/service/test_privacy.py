"""What clients send is neither logged nor written to disk."""

from __future__ import annotations

import base64
import io
import signal
from pathlib import Path

import grpc
import numpy as np
import pytest
from mirrorme.animate.v1 import animation_pb2 as pb
from mirrorme.animate.v1 import animation_pb2_grpc
from mirrorme_engines.fake_manifest import fake_manifest
from PIL import ExifTags, Image

from tests.service.gateway import audio, config
from tests.service.test_main import serving

AUDIO = b"said-by-somebody"
PLACE = b"taken-at-home-of"
SECRETS = (AUDIO, PLACE)


def portrait() -> bytes:
    """Noise, and in its EXIF what a phone writes of the place."""
    exif = Image.Exif()
    exif[ExifTags.Base.ImageDescription] = PLACE.decode()
    pixels = np.random.default_rng(5).integers(0, 256, (96, 96, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", exif=exif)
    assert PLACE in file.getvalue()
    return file.getvalue()


def spellings(secret: bytes) -> list[bytes]:
    """As it may stand in a log."""
    numbers = ", ".join(map(str, secret[:8])).encode()
    encoded = base64.b64encode(secret * 3)[4:-8]
    return [secret, secret.hex().encode(), secret.hex(" ").encode(), encoded, numbers]


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_of_a_session_nothing_stays(tmp_path: Path, log_format: str) -> None:
    engines, home = tmp_path / "engines", tmp_path / "home"
    for folder in (engines, home):
        folder.mkdir()
    fake_manifest().save(engines)
    environment = {name: str(home) for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME")}
    options = ("--log-level", "debug", "--log-format", log_format)
    with serving(engines, *options, **environment) as (process, port):
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub = animation_pb2_grpc.AnimationServiceStub(channel)
            source = pb.PortraitSource(image=portrait(), crop_mode=pb.CROP_MODE_CENTER)
            good = [config(portrait=source), *(audio(AUDIO * 500) for _ in range(4))]
            assert list(stub.StreamAnimate(iter(good)))[-1].summary.num_frames == 24
            # Refusals quote what was got.
            for bad in (
                [config(portrait=source), audio(AUDIO[:1])],
                [config(portrait=pb.PortraitSource(image=source.image[:2000] + PLACE))],
                [config(portrait=pb.PortraitSource(image=PLACE * 100))],
            ):
                with pytest.raises(grpc.RpcError):
                    list(stub.StreamAnimate(iter(bad)))
        process.send_signal(signal.SIGTERM)
        assert process.stderr
        log = process.stderr.read().encode()
    assert b"session" in log
    assert [path for path in home.rglob("*") if path.is_file()] == []
    for secret in SECRETS:
        assert not [text for text in spellings(secret) if text in log]


def test_the_search_would_find_it() -> None:
    for data in (secret * 3 for secret in SECRETS):
        logged = [data, data.hex().encode(), data.hex(" ").encode(), base64.b64encode(data)]
        for line in (*logged, str(list(data)).encode()):
            assert any(text in line for text in spellings(data[: len(data) // 3]))
