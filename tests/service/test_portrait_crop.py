"""Crop boxes and their pixels: right place, right shape, any size."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mirrorme_service.face_detector import Face
from mirrorme_service.portrait_crop import (
    CLOSE_UP,
    UPPER_BODY,
    CropBox,
    Framing,
    centre_crop,
    cut,
    face_crop,
    whole_picture,
)
from PIL import Image

SQUARE, TALL, WIDE = (256, 256), (512, 768), (768, 512)


def ramp(width: int, height: int) -> Image.Image:
    """Red tells x, green tells y."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0] = np.linspace(0, 255, width)
    pixels[..., 1] = np.linspace(0, 255, height)[:, None]
    return Image.fromarray(pixels)


@pytest.mark.parametrize("frame_size", [SQUARE, TALL, WIDE])
@pytest.mark.parametrize(
    ("framing", "low", "high"), [(UPPER_BODY, 0.25, 1 / 3), (CLOSE_UP, 0.5, 0.6)]
)
def test_the_face_sets_the_scale(
    frame_size: tuple[int, int], framing: Framing, low: float, high: float
) -> None:
    face = Face(1900, 900, 2080, 1140, 0.9)
    box = face_crop(face, (4000, 3000), frame_size, framing)
    assert low <= face.height / box.height_px <= high
    assert box.width_px / box.height_px == pytest.approx(frame_size[0] / frame_size[1], rel=0.01)
    assert (face.left + face.right) / 2 == pytest.approx(box.x_px + box.width_px / 2, abs=2)
    assert box.y_px < face.top - 0.3 * face.height, "no room for the hair"
    assert box.y_px + box.height_px > face.bottom + 0.3 * face.height


def test_the_crop_stays_inside_the_picture_where_it_can() -> None:
    face = Face(20, 80, 170, 280, 0.9)
    box = face_crop(face, (700, 700), SQUARE, UPPER_BODY)
    assert (box.y_px, box.height_px) == (0, 667)
    assert box.x_px < 0, "the face would be too far from the middle"
    assert abs(box.x_px + box.width_px / 2 - 95) <= 0.13 * box.width_px


def test_a_picture_that_is_a_little_tight_is_not_padded() -> None:
    face = Face(740, 150, 1060, 550, 0.9)
    box = face_crop(face, (1820, 1024), SQUARE, UPPER_BODY)
    assert box.y_px == 0
    assert box.height_px == pytest.approx(1024, abs=1)


def test_a_picture_that_is_very_tight_is_padded() -> None:
    face = Face(30, 20, 180, 220, 0.9)
    box = face_crop(face, (210, 240), SQUARE, UPPER_BODY)
    assert face.height / box.height_px == pytest.approx(0.4, abs=0.01)


def test_centre_crop_is_the_largest_inside() -> None:
    assert centre_crop((1000, 400), SQUARE) == CropBox(300, 0, 400, 400)
    assert centre_crop((400, 1000), SQUARE) == CropBox(0, 300, 400, 400)
    assert centre_crop((1000, 1000), TALL) == CropBox(166, 0, 667, 1000)


def test_whole_picture_is_the_smallest_around() -> None:
    assert whole_picture((1000, 400), SQUARE) == CropBox(0, -300, 1000, 1000)
    assert whole_picture((400, 1000), SQUARE) == CropBox(-300, 0, 1000, 1000)


def test_pixels_are_those_of_the_box() -> None:
    pixels = cut(ramp(1000, 800), CropBox(250, 200, 500, 400), (250, 200)).astype(float)
    assert pixels.shape == (200, 250, 3)
    x = 250 + 2 * (np.arange(250) + 0.5)
    y = 200 + 2 * (np.arange(200) + 0.5)
    assert np.abs(pixels[..., 0] - 255 * x / 1000).max() <= 2
    assert np.abs(pixels[..., 1] - 255 * y[:, None] / 800).max() <= 2


def test_the_same_size_is_the_same_picture() -> None:
    image = ramp(256, 256)
    assert np.array_equal(cut(image, CropBox(0, 0, 256, 256), SQUARE), np.asarray(image))


def test_outside_of_the_picture_its_edge_goes_on() -> None:
    image = Image.new("RGB", (100, 100), (10, 20, 30))
    image.paste((200, 0, 0), (0, 0, 5, 100))
    pixels = cut(image, CropBox(-100, -100, 300, 300), (300, 300))
    assert pixels.shape == (300, 300, 3)
    assert (pixels[100:200, :100] == (200, 0, 0)).all()
    assert (pixels[100:200, 200:] == (10, 20, 30)).all()
    assert np.array_equal(pixels[:100, 150], np.repeat(pixels[100:101, 150], 100, 0))
    assert np.array_equal(pixels[100:200, 100:200], np.asarray(image))


def test_fine_patterns_do_not_alias() -> None:
    """A checkerboard of single pixels is grey when it is made smaller."""
    board = (np.indices((1024, 1024)).sum(0) % 2 * 255).astype(np.uint8)
    image = Image.fromarray(np.stack([board] * 3, -1))
    pixels = cut(image, CropBox(0, 0, 1024, 1024), (128, 128))
    assert np.abs(pixels[4:-4, 4:-4].astype(int) - 127).max() <= 4


@settings(max_examples=150, deadline=None)
@given(
    size=st.tuples(st.integers(64, 600), st.integers(64, 600)),
    frame_size=st.sampled_from([(32, 32), (64, 96), (96, 64)]),
    face=st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0.05, 1.2), st.floats(0.4, 1.6)),
    framing=st.sampled_from([UPPER_BODY, CLOSE_UP, None]),
)
def test_any_face_in_any_picture(size, frame_size, face, framing) -> None:
    width, height = size
    x, y, part, shape = face
    face_height = part * height
    left, top = x * width - face_height * shape / 2, y * height - face_height / 2
    found = Face(left, top, left + face_height * shape, top + face_height, 0.9)
    if framing is None:
        box = whole_picture(size, frame_size)
    else:
        box = face_crop(found, size, frame_size, framing)
    pixels = cut(ramp(width, height), box, frame_size)
    assert pixels.shape == (frame_size[1], frame_size[0], 3)
    assert pixels.dtype == np.uint8
    assert (pixels[..., 2] == 0).all()
    assert np.array_equal(pixels, cut(ramp(width, height), box, frame_size))


@pytest.mark.parametrize("size", [(64, 20_000), (20_000, 64)])
def test_very_long_pictures(size: tuple[int, int]) -> None:
    for choose in (centre_crop, whole_picture):
        pixels = cut(Image.new("RGB", size, (9, 9, 9)), choose(size, SQUARE), SQUARE)
        assert (pixels == 9).all()
