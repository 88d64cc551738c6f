"""Picture files of all kinds: upright RGB, or a refusal with a stable reason; nothing else."""

import io
import random
import struct
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mirrorme_service.picture_file import BACKGROUND_RGB, decode_picture
from mirrorme_service.picture_format import PictureLimits
from mirrorme_service.picture_refusal import PictureRefused
from PIL import ExifTags, Image, ImageCms

WIDTH, HEIGHT = 96, 80


def picture(mode: str = "RGB") -> Image.Image:
    """Four corners of different colours, so that turns show."""
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    pixels[:40, :48], pixels[:40, 48:] = (220, 30, 40), (30, 200, 50)
    pixels[40:, :48], pixels[40:, 48:] = (40, 60, 210), (230, 220, 60)
    return Image.fromarray(pixels).convert(mode)


def file_of(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def decode(data: bytes, limits: PictureLimits | None = None) -> np.ndarray:
    image = decode_picture(data, limits)
    assert image.mode == "RGB"
    return np.asarray(image)


def refusal(data: bytes, limits: PictureLimits | None = None) -> PictureRefused:
    with pytest.raises(PictureRefused) as caught:
        decode_picture(data, limits)
    return caught.value


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *more: bytes) -> bytes:
    """A PNG written by hand, for what Pillow does not write. `more` are chunks before the data."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = [chunk(b"IHDR", header), *more, chunk(b"IDAT", zlib.compress(rows))]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks) + chunk(b"IEND", b"")


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


# Taken


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_the_three_formats_are_told_by_content(kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    pixels = decode(file_of(picture(), kind, quality=95, **options))
    assert pixels.shape == (HEIGHT, WIDTH, 3)
    assert np.abs(pixels.astype(int) - np.asarray(picture())).mean() < 4


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_exif_orientation_is_applied(kind: str, orientation: int) -> None:
    turned = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: np.rot90(a, 1),
    }[orientation]
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    pixels = decode(file_of(picture(), kind, exif=exif, **options))
    expected = turned(np.asarray(picture()))
    assert pixels.shape == expected.shape
    assert np.abs(pixels.astype(int) - expected).mean() < 8


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_impossible_orientations_are_left_out(orientation: int) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    assert decode(file_of(picture(), "PNG", exif=exif)).shape == (HEIGHT, WIDTH, 3)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_broken_exif_is_left_out() -> None:
    data = file_of(picture(), "JPEG", exif=b"Exif\0\0MM\0\x2a\xff\xff\xff\xff")
    assert decode(data).shape == (HEIGHT, WIDTH, 3)


def test_transparent_parts_show_the_background() -> None:
    image = picture("RGBA")
    alpha = np.full((HEIGHT, WIDTH), 255, np.uint8)
    alpha[:40], alpha[40:60] = 0, 128
    image.putalpha(Image.fromarray(alpha))
    pixels = decode(file_of(image)).astype(int)
    original = np.asarray(picture()).astype(int)
    assert (pixels[:40] == BACKGROUND_RGB).all()
    assert np.abs(pixels[40:60] - (original[40:60] + BACKGROUND_RGB) / 2).max() <= 2
    assert (pixels[60:] == original[60:]).all()


def test_palettes() -> None:
    paletted = picture().quantize(4)
    assert paletted.mode == "P"
    assert np.abs(decode(file_of(paletted)).astype(int) - np.asarray(picture())).max() <= 8


def test_palettes_with_transparency() -> None:
    paletted = picture().quantize(4)
    (index,) = {paletted.getpixel((0, 0))}
    pixels = decode(file_of(paletted, "PNG", transparency=index))
    assert (pixels[0, 0] == BACKGROUND_RGB).all()
    assert (pixels[-1, -1] != BACKGROUND_RGB).any()


@pytest.mark.parametrize("mode", ["L", "LA", "1"])
def test_grey(mode: str) -> None:
    pixels = decode(file_of(picture(mode)))
    assert (pixels[..., 0] == pixels[..., 2]).all()
    expected = np.asarray(picture(mode).convert("L")).astype(int)
    assert np.abs(pixels[..., 0] - expected).max() <= 1


def test_cmyk_jpeg() -> None:
    pixels = decode(file_of(picture("CMYK"), "JPEG", quality=95))
    assert np.abs(pixels.astype(int) - np.asarray(picture())).mean() < 6


def test_16_bit_grey_is_scaled() -> None:
    ramp = np.linspace(0, 65535, WIDTH).astype(">u2")
    rows = (b"\0" + ramp.tobytes()) * HEIGHT
    pixels = decode(png(WIDTH, HEIGHT, 16, 0, rows))
    expected = np.rint(ramp.astype(float) / 257)
    assert np.array_equal(pixels[0, :, 1], expected)


@pytest.mark.parametrize(("colour", "channels"), [(2, 3), (6, 4)])
def test_16_bit_colour_is_scaled(colour: int, channels: int) -> None:
    ramp = np.linspace(0, 65535, WIDTH).astype(">u2")
    values = np.repeat(ramp[:, None], channels, 1)
    values[:, 3:] = 65535
    pixels = decode(png(WIDTH, HEIGHT, 16, colour, (b"\0" + values.tobytes()) * HEIGHT))
    assert np.abs(pixels[0, :, 1] - ramp.astype(float) / 257).max() <= 1


def test_wide_gamut_colours_become_srgb() -> None:
    """A profile with red and green swapped shows whether it is applied."""
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    swapped = bytearray(srgb)
    entries = {srgb[at : at + 4]: at for at in range(132, 132 + 12 * 20, 12)}
    red, green = entries[b"rXYZ"] + 4, entries[b"gXYZ"] + 4
    swapped[red : red + 8], swapped[green : green + 8] = (
        srgb[green : green + 8],
        srgb[red : red + 8],
    )
    description = srgb.find("sRGB".encode("utf-16-be"))
    swapped[description : description + 8] = "test".encode("utf-16-be")
    pixels = decode(file_of(picture(), "PNG", icc_profile=bytes(swapped))).astype(int)
    original = np.asarray(picture()).astype(int)
    assert np.abs(pixels - original[..., [1, 0, 2]]).mean() < 12
    plain = decode(file_of(picture(), "PNG", icc_profile=srgb))
    assert np.array_equal(plain, original)


def test_profiles_that_cannot_be_used_are_left_out() -> None:
    for profile in (b"no profile", bytes(5 << 20)):
        pixels = decode(file_of(picture(), "WEBP", icc_profile=profile, lossless=True))
        assert np.array_equal(pixels, np.asarray(picture()))
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert decode(file_of(picture("CMYK"), "JPEG", icc_profile=srgb)).shape == (HEIGHT, WIDTH, 3)
    assert decode(file_of(picture("L"), "PNG", icc_profile=srgb)).shape == (HEIGHT, WIDTH, 3)


def test_a_jpeg_of_several_pictures_gives_the_first() -> None:
    data = file_of(picture(), "MPO", save_all=True, append_images=[picture("L").convert("RGB")])
    assert np.abs(decode(data).astype(int) - np.asarray(picture())).mean() < 8


def test_progressive_jpeg() -> None:
    assert decode(file_of(picture(), "JPEG", progressive=True)).shape == (HEIGHT, WIDTH, 3)


def test_bytes_after_the_picture_are_left_out() -> None:
    for kind in ("PNG", "JPEG"):
        assert decode(file_of(picture(), kind) + b"trailing").shape == (HEIGHT, WIDTH, 3)


# Refused


def test_empty() -> None:
    assert refusal(b"").reason == "PORTRAIT_EMPTY"


def test_too_many_bytes() -> None:
    error = refusal(bytes(1001), PictureLimits(max_bytes=1000))
    assert (error.reason, error.got) == ("PORTRAIT_TOO_LARGE", "1001 bytes")


@pytest.mark.parametrize(
    ("start", "name"),
    [
        (b"GIF89a", "GIF"),
        (b"BM6\0", "BMP"),
        (b"II*\0", "TIFF"),
        (b"\0\0\0\x1cftypheic", "HEIC"),
        (b"\0\0\0\x1cftypavif", "AVIF"),
        (b"\0\0\0\x20ftypisom", "video"),
        (b"%PDF-1.7", "PDF"),
        (b"<svg xmlns=", "SVG"),
        (b"RIFF\0\0\0\0WAVEfmt ", "WAV"),
        (b"data:image/png;base64,", "data URL"),
        (b"iVBORw0KGgoAAAANS", "base64"),
        (b"/9j/4AAQSkZJRg", "base64"),
        (b"hello world", "68 65 6c 6c 6f"),
        (b"\x89PNG", "89 50 4e 47"),
        (b"\0", "00"),
    ],
)
def test_other_formats_are_named(start: bytes, name: str) -> None:
    error = refusal(start + bytes(100 if len(start) > 4 else 0))
    assert error.reason == "PORTRAIT_FORMAT_UNKNOWN"
    assert name in error.message


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_truncated(kind: str, part: float) -> None:
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8))
    data = file_of(noise, kind)
    error = refusal(data[: int(len(data) * part)])
    assert error.reason == "PORTRAIT_CORRUPT"
    assert kind in error.message


@pytest.mark.parametrize("data", [b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\4\0\0\0WEBP"])
def test_only_a_signature(data: bytes) -> None:
    assert refusal(data).reason == "PORTRAIT_CORRUPT"


def test_a_damaged_png_is_noticed_by_its_checksum() -> None:
    data = bytearray(file_of(picture()))
    data[data.find(b"IDAT") + 10] ^= 255
    assert refusal(bytes(data)).reason == "PORTRAIT_CORRUPT"


@pytest.mark.parametrize(("width", "height"), [(0, 80), (80, 0), (0, 0), (63, 500), (500, 63)])
def test_too_small(width: int, height: int) -> None:
    error = refusal(png(width, height, 8, 2, b"\0"))
    assert (error.reason, error.got) == ("PORTRAIT_TOO_SMALL", f"{width}x{height}")


def test_the_smallest_that_is_taken() -> None:
    assert decode(file_of(picture().resize((64, 64)))).shape == (64, 64, 3)


@pytest.mark.parametrize("side", [6325, 20_000, 2_000_000_000])
def test_a_png_bomb_is_refused_by_its_header(side: int) -> None:
    error = refusal(png(side, side, 1, 0, b"\0"))
    assert error.reason == "PORTRAIT_TOO_MANY_PIXELS"


def test_a_webp_bomb_is_refused_by_its_header() -> None:
    still = file_of(picture(), "WEBP")
    lossless = bytearray(file_of(picture(), "WEBP", lossless=True))
    lossless[21:25] = struct.pack("<I", 16383 | 16383 << 14)
    lossy = bytearray(still)
    assert lossy[12:16] == b"VP8 "
    lossy[26:30] = struct.pack("<HH", 16383, 16383)
    extended = bytearray(file_of(picture("RGBA"), "WEBP", exif=Image.Exif().tobytes()))
    assert extended[12:16] == b"VP8X"
    extended[24:30] = b"\xff\xff\xff" * 2
    for bomb in (lossless, lossy, extended):
        assert refusal(bytes(bomb)).reason == "PORTRAIT_TOO_MANY_PIXELS"


@pytest.mark.parametrize("side", [7000, 12_000, 65_000])
def test_a_jpeg_bomb_is_refused_by_its_header(side: int) -> None:
    data = bytearray(file_of(picture(), "JPEG"))
    at = data.find(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", side, side)
    assert refusal(bytes(data)).reason == "PORTRAIT_TOO_MANY_PIXELS"


def test_a_jpeg_with_endless_scans_is_refused() -> None:
    data = file_of(picture(), "JPEG", progressive=True)
    scan = data[data.find(b"\xff\xda") : -2]
    error = refusal(data[:-2] + scan * 100 + data[-2:])
    assert error.reason == "PORTRAIT_CORRUPT"
    assert "scans" in error.message


def test_the_scans_of_a_large_jpeg_are_fewer() -> None:
    """A header of 40 million pixels: what it would take to decode is known before."""
    data = file_of(picture(), "JPEG", progressive=True)
    start = data.find(b"\xff\xc2")
    large = data[: start + 5] + struct.pack(">HH", 5000, 8000) + data[start + 9 :]
    scan = data[data.find(b"\xff\xda") : -2]
    error = refusal(large[:-2] + scan * 2 + large[-2:])
    assert error.reason == "PORTRAIT_CORRUPT"
    assert "at most 16 are decoded" in error.message


def test_a_text_chunk_that_unpacks_to_much_is_refused() -> None:
    text = b"comment\0\0" + zlib.compress(bytes(64 << 20))
    rows = (b"\0" + bytes(3 * WIDTH)) * HEIGHT
    error = refusal(png(WIDTH, HEIGHT, 8, 2, rows, chunk(b"zTXt", text)))
    assert error.reason == "PORTRAIT_CORRUPT"


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_animations(kind: str) -> None:
    frames = [picture(), picture().transpose(Image.Transpose.ROTATE_180)]
    data = file_of(frames[0], kind, save_all=True, append_images=frames[1:], duration=100)
    error = refusal(data)
    assert (error.reason, error.got) == ("PORTRAIT_ANIMATED", "2 pictures")


def test_limits_are_validated() -> None:
    with pytest.raises(ValueError, match="max_pixels"):
        PictureLimits(max_pixels=0)


# Anything


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    kind=st.sampled_from(["PNG", "JPEG", "WEBP", "WEBP lossless", "JPEG progressive", "PNG P"]),
    seed=st.integers(0, 2**32),
    num_changes=st.integers(1, 20),
    keep=st.one_of(st.just(1.0), st.floats(0, 1)),
)
def test_damaged_files_are_taken_or_refused(
    kind: str, seed: int, num_changes: int, keep: float
) -> None:
    rng = random.Random(seed)
    name, _, extra = kind.partition(" ")
    options = {"lossless": True} if extra == "lossless" else {}
    options |= {"progressive": True} if extra == "progressive" else {}
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    data = bytearray(file_of(picture("P" if extra == "P" else "RGB"), name, exif=exif, **options))
    for _ in range(num_changes):
        # Headers decide most: change them as often as all the rest.
        at = rng.randrange(min(100, len(data)) if rng.random() < 0.5 else len(data))
        data[at] = rng.randrange(256)
    try:
        decode(bytes(data[: int(len(data) * keep)]))
    except PictureRefused as error:
        assert error.reason.startswith("PORTRAIT_")
