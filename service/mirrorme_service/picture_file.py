"""A picture file's bytes to an upright RGB picture, or a refusal that says what is wrong with it.

PNG, JPEG and WebP, told apart by content. What the file declares is checked before pixels are
decoded, so that a small file cannot ask for much memory. Knows nothing of faces and frames.

What becomes what:

- EXIF orientation is applied.
- Transparent parts show a neutral grey behind them.
- 16-bit grey is scaled to 8 bits, not clipped; palettes, grey and CMYK become RGB.
- An embedded ICC profile (wide-gamut phones, print CMYK) is converted to sRGB; one that cannot be
  used is left out of account.
- Of a JPEG with several pictures (MPO: depth maps, gain maps of phones) the first is taken. An
  animated PNG or WebP is refused: which picture is meant is not known.
"""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import ExifTags, Image, ImageCms

from mirrorme_service.errors import InvalidRequest

Format = Literal["PNG", "JPEG", "WEBP"]

BACKGROUND_RGB = (128, 128, 128)
"""Behind transparent parts."""

_MAX_PROFILE_BYTES = 4 << 20
# Each scan of a progressive JPEG decodes the whole picture once more: the first bounds the time of
# small pictures, the second that of large ones. Real files have about ten scans.
_MAX_JPEG_SCANS = 64
_MAX_SCANNED_PIXELS = 640_000_000
_JPEG_START_OF_SCAN = b"\xff\xda"

# What Pillow raises on files that are not what they say. MemoryError: a declared size inside the
# file that its own limits let pass. Warning: where warnings are made errors.
_DECODE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    LookupError,
    TypeError,
    ArithmeticError,
    MemoryError,
    Warning,
    struct.error,
    zlib.error,
)
_BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning)

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

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


def decode_picture(data: bytes, limits: PictureLimits | None = None, *, field: str) -> Image.Image:
    """The upright RGB picture in a file. Blocks for as long as decoding takes.

    Args:
        data: the file's content.
        limits: None: the defaults.
        field: the request's field that holds the file, for errors.

    Raises:
        InvalidRequest: PORTRAIT_EMPTY, PORTRAIT_TOO_LARGE, PORTRAIT_FORMAT_UNKNOWN,
            PORTRAIT_TOO_MANY_PIXELS, PORTRAIT_TOO_SMALL, PORTRAIT_ANIMATED, PORTRAIT_CORRUPT
    """
    limits = limits or PictureLimits()
    kind = _checked_format(data, limits, field)
    declared = _declared_size(data, kind)
    if declared is not None:
        _check_size(*declared, limits, field)
    try:
        with Image.open(io.BytesIO(data), formats=[kind]) as image:
            _check_size(image.width, image.height, limits, field)
            _check_still(image, field)
            if kind == "JPEG":
                _check_scans(data, image.width * image.height)
            image.load()
            return _upright(_to_rgb(image), _orientation(image))
    except _BOMBS as error:
        raise InvalidRequest(
            "PORTRAIT_TOO_MANY_PIXELS",
            f"the portrait has more than {limits.max_pixels} pixels: send a smaller picture",
            field=field,
            expected=f"at most {limits.max_pixels} pixels",
        ) from error
    except _DECODE_ERRORS as error:
        raise InvalidRequest(
            "PORTRAIT_CORRUPT",
            f"the portrait is a damaged or incomplete {kind} file of {len(data)} bytes ({error}): "
            "send the whole file",
            field=field,
            got=f"damaged {kind}",
            expected=f"a whole {kind} file",
        ) from error


def _checked_format(data: bytes, limits: PictureLimits, field: str) -> Format:
    """The format by content; refuses what is empty, too large or of another format."""
    if not data:
        raise InvalidRequest(
            "PORTRAIT_EMPTY",
            "the portrait has 0 bytes: send the content of a PNG, JPEG or WebP file",
            field=field,
            got="0 bytes",
            expected="a PNG, JPEG or WebP file",
        )
    if len(data) > limits.max_bytes:
        raise InvalidRequest(
            "PORTRAIT_TOO_LARGE",
            f"the portrait has {len(data)} bytes, at most {limits.max_bytes} are accepted: "
            "send a smaller picture or compress it more",
            field=field,
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
    raise InvalidRequest(
        "PORTRAIT_FORMAT_UNKNOWN",
        f"the portrait is {got}: send a PNG, JPEG or WebP file",
        field=field,
        got=got,
        expected="PNG, JPEG or WebP",
    )


def _declared_size(data: bytes, kind: Format) -> tuple[int, int] | None:
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


def _check_size(width: int, height: int, limits: PictureLimits, field: str) -> None:
    if width * height > limits.max_pixels:
        raise InvalidRequest(
            "PORTRAIT_TOO_MANY_PIXELS",
            f"the portrait is {width}x{height} = {width * height} pixels, at most "
            f"{limits.max_pixels} are accepted: send a smaller picture",
            field=field,
            got=f"{width}x{height}",
            expected=f"at most {limits.max_pixels} pixels",
        )
    if min(width, height) < limits.min_side_px:
        raise InvalidRequest(
            "PORTRAIT_TOO_SMALL",
            f"the portrait is {width}x{height} pixels, each side must have at least "
            f"{limits.min_side_px}: send a larger picture",
            field=field,
            got=f"{width}x{height}",
            expected=f"sides of at least {limits.min_side_px} px",
        )


def _check_still(image: Image.Image, field: str) -> None:
    num_frames = getattr(image, "n_frames", 1)
    if num_frames > 1 and image.format != "MPO":
        raise InvalidRequest(
            "PORTRAIT_ANIMATED",
            f"the portrait is an animation of {num_frames} pictures: send a still picture",
            field=field,
            got=f"{num_frames} pictures",
            expected="1 picture",
        )


def _check_scans(data: bytes, num_pixels: int) -> None:
    num_scans = data.count(_JPEG_START_OF_SCAN)
    max_scans = min(_MAX_JPEG_SCANS, _MAX_SCANNED_PIXELS // num_pixels)
    if num_scans > max_scans:
        raise ValueError(
            f"{num_scans} scans of {num_pixels} pixels, at most {max_scans} are decoded"
        )


def _orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 to 8; 1 where there is none or it cannot be read."""
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except _DECODE_ERRORS:
        return 1
    return value if value in _UPRIGHT else 1


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    turn = _UPRIGHT.get(orientation)
    return image if turn is None else image.transpose(turn)


def _to_rgb(image: Image.Image) -> Image.Image:
    """RGB in sRGB over the background, from any mode that the three formats have."""
    profile = image.info.get("icc_profile")
    alpha = None
    if image.mode.startswith("I"):
        image = _to_grey8(image)
    elif image.mode == "1":
        image = image.convert("L")
    elif image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
        image = image.convert("RGBA")
        alpha = image.getchannel("A")
        image = image.convert("RGB")
    elif image.mode == "P":
        image = image.convert("RGB")
    image = _to_srgb(image, profile)
    if alpha is not None:
        image = Image.composite(image, Image.new("RGB", image.size, BACKGROUND_RGB), alpha)
    return image


def _to_grey8(image: Image.Image) -> Image.Image:
    """16-bit grey to 8-bit grey, rounded."""
    levels = np.asarray(image).astype(np.uint32)
    return Image.fromarray(((levels * 255 + 32767) // 65535).astype(np.uint8))


def _to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """RGB in sRGB from L, RGB or CMYK; without a usable profile, what the mode alone says."""
    if not profile or len(profile) > _MAX_PROFILE_BYTES or image.mode not in ("L", "RGB", "CMYK"):
        return image if image.mode == "RGB" else image.convert("RGB")
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if image.mode == "RGB" and "srgb" in ImageCms.getProfileDescription(source).lower():
            return image
        converted = ImageCms.profileToProfile(
            image, source, ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
    except (ImageCms.PyCMSError, *_DECODE_ERRORS):
        converted = None  # a grey or RGB profile in a CMYK file, a damaged one, ...
    return image.convert("RGB") if converted is None else converted
