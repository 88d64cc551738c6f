"""What readers of others see of the marks that say: a machine made this."""

from __future__ import annotations

import io
from xml.etree import ElementTree

import av
import pytest
from av.sidedata.sidedata import Type
from mirrorme_service import disclosure
from PIL import Image

from tests.service.test_frame_encoder import clip, open_encoder

MARK = disclosure.SEI_UUID.bytes + f"{disclosure.TEXT}; {disclosure.SOURCE_TYPE}".encode()


def user_data(frame: av.VideoFrame) -> list[bytes]:
    """The SEI messages of a decoded frame, of libx264 too."""
    return [bytes(data) for data in frame.side_data if data.type == Type.SEI_UNREGISTERED]


def test_every_key_frame_of_h264_is_marked() -> None:
    encoder = open_encoder("h264_bitrate")
    encoded = [*encoder.encode(clip(25)), *encoder.encode(clip(5), force_key_frame=True)]
    decoder = av.CodecContext.create("h264", "r")
    frames = [f for frame in encoded for f in decoder.decode(av.Packet(frame.data))]
    frames += decoder.decode(None)
    assert [MARK in user_data(frame) for frame in frames] == [f.is_key_frame for f in encoded]
    assert sum(frame.is_key_frame for frame in encoded) == 4


@pytest.mark.parametrize("name", ["jpeg", "jpeg_best"])
def test_every_jpeg_is_marked(name: str) -> None:
    for frame in open_encoder(name).encode(clip(2)):
        picture = Image.open(io.BytesIO(frame.data))
        picture.load()
        assert picture.info["comment"] == disclosure.TEXT.encode()
        description = ElementTree.fromstring(picture.info["xmp"])[0][0]
        iptc = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}"
        assert description.attrib[f"{iptc}DigitalSourceType"] == disclosure.SOURCE_TYPE


def test_the_sei_goes_before_the_slice_however_long_its_start_code() -> None:
    for start in (b"\0\0\1", b"\0\0\0\1"):
        sps, slice_ = start + b"\x67abc", start + b"\x65def"
        marked = disclosure.mark_h264(sps + slice_)
        assert marked.startswith(sps + b"\0\0\0\1\6\5")
        assert marked.endswith(b"\x80" + slice_)
