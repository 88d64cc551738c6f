"""Portrait files that were cut, spliced and scribbled on: a picture, or a refusal with a reason."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mirrorme.animate.v1 import animation_pb2 as pb
from mirrorme_service.errors import InvalidRequest
from mirrorme_service.picture_decoders import PictureDecoders
from mirrorme_service.picture_format import PictureLimits
from mirrorme_service.picture_process import DecoderBounds
from mirrorme_service.picture_refusal import PictureRefused
from mirrorme_service.portrait import FittedPortrait, fit_portrait
from PIL import Image

from tests.fuzz.effort import effort
from tests.service.gateway import NoFaces

LIMITS = PictureLimits(max_bytes=1 << 20, max_pixels=1 << 20)
MAX_GROWTH_BYTES = 16 << 20


def files() -> list[bytes]:
    """Sound ones, of each kind that is taken and of one that is not."""
    noise = np.random.default_rng(1).integers(0, 256, (72, 80, 4), np.uint8)
    rgba = Image.fromarray(noise)
    rgb, grey = rgba.convert("RGB"), rgba.convert("I;16")
    exif = Image.Exif()
    exif[0x0112] = 6
    made = []
    for image, kind, options in (
        (rgba, "PNG", {}),
        (rgb.convert("P"), "PNG", {}),
        (grey, "PNG", {}),
        (rgb, "JPEG", {"exif": exif, "progressive": True}),
        (rgb.convert("CMYK"), "JPEG", {}),
        (rgba, "WEBP", {"lossless": True}),
        (rgb, "WEBP", {"icc_profile": b"not a profile"}),
        (rgb, "GIF", {}),
    ):
        file = io.BytesIO()
        image.save(file, kind, **options)
        made.append(file.getvalue())
    return made


FILES = files()


@st.composite
def damaged_files(draw: st.DrawFn) -> bytes:
    """A sound file with some of its bytes changed, put in or taken out; mostly near the start,
    where the headers are."""
    data = bytearray(draw(st.sampled_from(FILES)))
    for _ in range(draw(st.integers(0, 6))):
        end = draw(st.sampled_from([64, 512, len(data)]))
        at = draw(st.integers(0, min(end, len(data))))
        put_in = draw(st.binary(max_size=8))
        data[at : at + draw(st.integers(0, 16))] = put_in
    if draw(st.booleans()):
        del data[draw(st.integers(0, len(data))) :]
    return bytes(data)


@pytest.fixture(scope="module")
def decoders() -> Iterator[PictureDecoders]:
    """One process decodes all, and has not grown by then."""
    decoders = PictureDecoders(DecoderBounds(max_time_s=600))  # a busy machine is no hang
    for data in FILES[:-1]:
        fit(data, pb.CROP_MODE_PAD, decoders)
    (pid,) = decoders.pids
    before = psutil.Process(pid).memory_info().rss
    yield decoders
    assert decoders.pids == [pid]
    assert psutil.Process(pid).memory_info().rss < before + MAX_GROWTH_BYTES
    decoders.close()


def fit(data: bytes, crop_mode: pb.CropMode, decoders: PictureDecoders) -> FittedPortrait:
    with decoders.opened(data, LIMITS) as picture:
        return fit_portrait(picture, crop_mode, (64, 96), NoFaces(), field="image")


@effort(1000)
@given(
    st.one_of(damaged_files(), st.binary(max_size=256)),
    st.sampled_from([pb.CROP_MODE_CENTER, pb.CROP_MODE_PAD, pb.CROP_MODE_FACE]),
)
def test_portrait(decoders: PictureDecoders, data: bytes, crop_mode: pb.CropMode) -> None:
    try:
        portrait = fit(data, crop_mode, decoders)
    except (PictureRefused, InvalidRequest) as refusal:
        assert refusal.reason.startswith("PORTRAIT_")
        return
    assert portrait.pixels.shape == (96, 64, 3)
    assert portrait.pixels.dtype == np.uint8
