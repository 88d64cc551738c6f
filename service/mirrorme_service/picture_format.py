"""What a picture file says of itself before pixels are decoded: its format and its size.

PNG, JPEG and WebP, told apart by content; others are named in the refusal.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Literal

from mirrorme_service.picture_refusal import PictureRefused

Format = Literal["PNG", "JPEG", "WEBP"]

# Other formats that people send, named so that the refusal helps.
_OTHER_FORMATS = (
    (0, b"GIF8", "GIF"),
    (0, b"BM", "BMP"),
    (0, b"II*\0", "TIFF"),
    (0, b"MM\0*", "TIFF"),
    (4, b"ftypavif", "AVIF"),
    (4, b"ftypavis", "AVIF"),
    (4, b"ftyphei", "HEIC"),
    (4, b"ftypmif1", "HEIC"),
    (4, b"ftyp", "an MP4-like video"),
    (0, b"\x1a\x45\xdf\xa3", "a WebM or Matroska video"),
    (0, b"\xff\x0a", "JPEG XL"),
    (0, b"\0\0\0\x0cJXL ", "JPEG XL"),
    (0, b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (0, b"8BPS", "Photoshop"),
    (0, b"\0\0\1\0", "ICO"),
    (0, b"%PDF", "PDF"),
    (0, b"<?xml", "XML or SVG"),
    (0, b"<svg", "SVG"),
    (0, b"<!DOCTYPE", "HTML"),
    (0, b"<html", "HTML"),
    (8, b"WAVE", "WAV audio"),
    (0, b"data:", "a data URL, send the bytes themselves"),
    (0, b"iVBORw0KGgo", "base64 text, send the bytes themselves"),
    (0, b"/9j/", "base64 text, send the bytes themselves"),
)


@dataclass(frozen=True)
class PictureLimits:
    """What is accepted as a portrait file."""

    max_bytes: int = 20_000_000
    max_pixels: int = 40_000_000
    min_side_px: int = 64

    def __post_init__(self) -> None:
        """Checks the values."""
        for name in ("max_bytes", "max_pixels", "min_side_px"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: want at least 1")


def checked_format(data: bytes, limits: PictureLimits) -> Format:
    """The format by content; refuses what is empty, too large or of another format."""
    if not data:
        raise PictureRefused(
            "PORTRAIT_EMPTY",
            "the portrait has 0 bytes: send the content of a PNG, JPEG or WebP file",
            got="0 bytes",
            expected="a PNG, JPEG or WebP file",
        )
    if len(data) > limits.max_bytes:
        raise PictureRefused(
            "PORTRAIT_TOO_LARGE",
            f"the portrait has {len(data)} bytes, at most {limits.max_bytes} are accepted: "
            "send a smaller picture or compress it more",
            got=f"{len(data)} bytes",
            expected=f"at most {limits.max_bytes} bytes",
        )
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "WEBP"
    names = (name for at, magic, name in _OTHER_FORMATS if data.startswith(magic, at))
    got = next(names, f"an unknown format starting with bytes {data[:8].hex(' ')}")
    raise PictureRefused(
        "PORTRAIT_FORMAT_UNKNOWN",
        f"the portrait is {got}: send a PNG, JPEG or WebP file",
        got=got,
        expected="PNG, JPEG or WebP",
    )


def declared_size(data: bytes, kind: Format) -> tuple[int, int] | None:
    """Width and height in the header of a PNG or WebP; None where they are not readable.

    Pillow reads a JPEG's header alone, but sets up the whole canvas of a WebP and refuses a PNG
    without pixels as unknown.
    """
    chunk = data[12:16]
    if kind == "PNG" and chunk == b"IHDR" and len(data) >= 24:
        return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    if kind != "WEBP" or len(data) < 30:
        return None
    if chunk == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if chunk == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if chunk == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    return None


def check_size(width: int, height: int, limits: PictureLimits) -> None:
    """Refuses what has too many pixels, or too few."""
    if width * height > limits.max_pixels:
        raise PictureRefused(
            "PORTRAIT_TOO_MANY_PIXELS",
            f"the portrait is {width}x{height} = {width * height} pixels, at most "
            f"{limits.max_pixels} are accepted: send a smaller picture",
            got=f"{width}x{height}",
            expected=f"at most {limits.max_pixels} pixels",
        )
    if min(width, height) < limits.min_side_px:
        raise PictureRefused(
            "PORTRAIT_TOO_SMALL",
            f"the portrait is {width}x{height} pixels, each side must have at least "
            f"{limits.min_side_px}: send a larger picture",
            got=f"{width}x{height}",
            expected=f"sides of at least {limits.min_side_px} px",
        )
