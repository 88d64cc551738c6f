"""A picture file's bytes to an upright RGB picture, or a refusal that says what is wrong with it.

PNG, JPEG and WebP, told apart by content. What the file declares is checked before pixels are
decoded, so that a small file cannot ask for much memory. Knows nothing of faces and frames. Imports
little: it runs in processes of its own (`picture_worker`).

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

from PIL import ExifTags, Image, ImageCms, ImageMath

from mirrorme_service.picture_format import (
    PictureLimits,
    check_size,
    checked_format,
    declared_size,
)
from mirrorme_service.picture_refusal import PictureRefused

BACKGROUND_RGB = (128, 128, 128)
"""Behind transparent parts."""

_MAX_PROFILE_BYTES = 4 << 20
# Each scan of a progressive JPEG decodes the whole picture once more: the first bounds the time of
# small pictures, the second that of large ones. Real files have about ten scans.
_MAX_JPEG_SCANS = 64
_MAX_SCANNED_PIXELS = 640_000_000
_JPEG_START_OF_SCAN = b"\xff\xda"

# What Pillow raises on files that are not what they say. Warning: where warnings are made errors.
_DECODE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    LookupError,
    TypeError,
    ArithmeticError,
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


def decode_picture(data: bytes, limits: PictureLimits | None = None) -> Image.Image:
    """The upright RGB picture in a file. Blocks for as long as decoding takes.

    Args:
        data: the file's content.
        limits: None: the defaults.

    Raises:
        PictureRefused: PORTRAIT_EMPTY, PORTRAIT_TOO_LARGE, PORTRAIT_FORMAT_UNKNOWN,
            PORTRAIT_TOO_MANY_PIXELS, PORTRAIT_TOO_SMALL, PORTRAIT_ANIMATED, PORTRAIT_CORRUPT
        MemoryError: it takes more than this process may have.
    """
    limits = limits or PictureLimits()
    kind = checked_format(data, limits)
    declared = declared_size(data, kind)
    if declared is not None:
        check_size(*declared, limits)
    try:
        with Image.open(io.BytesIO(data), formats=[kind]) as image:
            check_size(image.width, image.height, limits)
            _check_still(image)
            if kind == "JPEG":
                _check_scans(data, image.width * image.height)
            image.load()
            return _upright(_to_rgb(image), _orientation(image))
    except _BOMBS as error:
        raise PictureRefused(
            "PORTRAIT_TOO_MANY_PIXELS",
            f"the portrait has more than {limits.max_pixels} pixels: send a smaller picture",
            expected=f"at most {limits.max_pixels} pixels",
        ) from error
    except _DECODE_ERRORS as error:
        raise PictureRefused(
            "PORTRAIT_CORRUPT",
            f"the portrait is a damaged or incomplete {kind} file of {len(data)} bytes ({error}): "
            "send the whole file",
            got=f"damaged {kind}",
            expected=f"a whole {kind} file",
        ) from error


def _check_still(image: Image.Image) -> None:
    num_frames = getattr(image, "n_frames", 1)
    if num_frames > 1 and image.format != "MPO":
        raise PictureRefused(
            "PORTRAIT_ANIMATED",
            f"the portrait is an animation of {num_frames} pictures: send a still picture",
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
    return ImageMath.lambda_eval(
        lambda of: of["convert"]((of["levels"] * 255 + 32767) / 65535, "L"),
        levels=image.convert("I"),
    )


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
