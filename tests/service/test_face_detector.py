"""The rules of whose face a portrait shows, and the detector on real and drawn faces."""

import io
from pathlib import Path

import numpy as np
import pytest
from mirrorme_service.errors import InvalidRequest
from mirrorme_service.face_detector import Face, FaceDetector, portrait_face
from PIL import Image

from tests.service.shared_assets import shared_asset

ROOT = Path(__file__).parents[2]
FIELD = "image"
SIZE = (600, 800)


def face(left: float, top: float, width: float, height: float, score: float = 0.9) -> Face:
    return Face(left, top, left + width, top + height, score)


def refusal(faces: list[Face], size: tuple[int, int] = SIZE) -> str:
    with pytest.raises(InvalidRequest) as caught:
        portrait_face(faces, *size, field=FIELD)
    assert caught.value.field == FIELD
    assert "CROP_MODE_CENTER" in caught.value.message or "larger picture" in caught.value.message
    return caught.value.reason


# Rules


def test_one_whole_face() -> None:
    only = face(200, 200, 150, 200)
    assert portrait_face([only], *SIZE, field=FIELD) is only


def test_no_face() -> None:
    assert refusal([]) == "PORTRAIT_NO_FACE"


def test_faces_of_similar_size() -> None:
    assert refusal([face(300, 200, 150, 200), face(50, 200, 100, 130)]) == "PORTRAIT_MANY_FACES"


def test_a_much_larger_face_wins() -> None:
    first = face(200, 200, 150, 200)
    assert portrait_face([first, face(20, 20, 60, 90)], *SIZE, field=FIELD) is first


@pytest.mark.parametrize(
    "cut",
    [
        face(-2, 200, 90, 200),
        face(512, 200, 90, 200),
        face(200, -3, 150, 140),
        face(200, 660, 150, 142),
        face(0, 0, 150, 200),
        face(455, 605, 150, 200),
    ],
    ids=["left", "right", "top", "bottom", "left and top", "right and bottom"],
)
def test_a_face_cut_by_an_edge(cut: Face) -> None:
    assert refusal([cut]) == "PORTRAIT_FACE_CUT_OFF"


@pytest.mark.parametrize(
    "whole", [face(4, 200, 150, 200), face(200, 2, 150, 200), face(100, 200, 90, 200)]
)
def test_a_whole_face_near_an_edge_and_a_narrow_one_elsewhere_are_taken(whole: Face) -> None:
    assert portrait_face([whole], *SIZE, field=FIELD) is whole


def test_a_tiny_face() -> None:
    assert refusal([face(200, 200, 20, 31)]) == "PORTRAIT_FACE_TOO_SMALL"


# The detector


@pytest.fixture(scope="module")
def detector() -> FaceDetector:
    return FaceDetector()


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data)).convert("RGB")


EXAMPLES = sorted((ROOT / "examples").glob("portrait_*.png"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_drawn_portraits_of_the_repository(detector: FaceDetector, path: Path) -> None:
    picture = opened(path.read_bytes())
    found = portrait_face(detector.detect(picture), *picture.size, field=FIELD)
    assert found.score > 0.5
    assert 0.2 < found.height / picture.height < 0.5
    assert found.left < picture.width / 2 < found.right


def test_there_are_examples() -> None:
    assert EXAMPLES


@pytest.mark.parametrize("scale", [0.25, 0.5, 3.0])
def test_the_size_of_the_picture_does_not_matter(detector: FaceDetector, scale: float) -> None:
    picture = opened(EXAMPLES[0].read_bytes())
    (at_full_size,) = detector.detect(picture)
    size = (round(picture.width * scale), round(picture.height * scale))
    (scaled,) = detector.detect(picture.resize(size))
    assert scaled.height / scale == pytest.approx(at_full_size.height, rel=0.12)
    assert scaled.left / scale == pytest.approx(at_full_size.left, abs=15)


def test_the_same_picture_gives_the_same_face(detector: FaceDetector) -> None:
    picture = opened(EXAMPLES[0].read_bytes())
    assert detector.detect(picture) == detector.detect(picture)


def test_two_drawn_people(detector: FaceDetector) -> None:
    both = Image.new("RGB", (1024, 512))
    for x, path in zip((0, 512), EXAMPLES, strict=False):
        both.paste(opened(path.read_bytes()).resize((512, 512)), (x, 0))
    assert refusal(detector.detect(both), both.size) == "PORTRAIT_MANY_FACES"


@pytest.mark.parametrize("side", ["left", "right", "top", "bottom"])
def test_a_drawn_face_cut_through(detector: FaceDetector, side: str) -> None:
    picture = opened(EXAMPLES[0].read_bytes())
    (whole,) = detector.detect(picture)
    left, top, right, bottom = 0, 0, *picture.size
    match side:
        case "left":
            left = round(whole.left + 0.35 * whole.width)
        case "right":
            right = round(whole.right - 0.35 * whole.width)
        case "top":
            top = round(whole.top + 0.35 * whole.height)
        case "bottom":
            bottom = round(whole.bottom - 0.35 * whole.height)
    rest = picture.crop((left, top, right, bottom))
    reason = refusal(detector.detect(rest), rest.size)
    assert reason in ("PORTRAIT_FACE_CUT_OFF", "PORTRAIT_NO_FACE")


@pytest.mark.parametrize("kind", ["grey", "noise", "text-like stripes"])
def test_pictures_without_a_person(detector: FaceDetector, kind: str) -> None:
    rng = np.random.default_rng(3)
    pixels = {
        "grey": np.full((300, 400, 3), 128),
        "noise": rng.integers(0, 256, (300, 400, 3)),
        "text-like stripes": np.kron(rng.integers(0, 2, (30, 40, 1)), np.full((10, 10, 3), 255)),
    }[kind]
    assert detector.detect(Image.fromarray(pixels.astype(np.uint8))) == []


def test_a_picture_as_narrow_as_is_taken(detector: FaceDetector) -> None:
    assert detector.detect(Image.new("RGB", (64, 5000))) == []


@pytest.mark.parametrize("name", ["man_half_body", "woman_frontal", "woman_half_body"])
def test_real_portraits(detector: FaceDetector, name: str) -> None:
    picture = opened(shared_asset(f"portraits/{name}.png"))
    found = portrait_face(detector.detect(picture), *picture.size, field=FIELD)
    assert found.score > 0.8


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("dog.jpg", "PORTRAIT_NO_FACE"),
        ("four_people.jpg", "PORTRAIT_MANY_FACES"),
        ("half_a_face.jpg", "PORTRAIT_FACE_CUT_OFF"),
    ],
)
def test_real_pictures_that_are_no_portraits(
    detector: FaceDetector, name: str, reason: str
) -> None:
    picture = opened(shared_asset(f"negatives/{name}"))
    assert refusal(detector.detect(picture), picture.size) == reason


@pytest.mark.parametrize("side", ["left", "right", "top", "bottom"])
@pytest.mark.parametrize("name", ["man_half_body", "woman_frontal", "woman_half_body"])
def test_a_real_face_cut_through(detector: FaceDetector, name: str, side: str) -> None:
    picture = opened(shared_asset(f"portraits/{name}.png"))
    (whole,) = detector.detect(picture)
    box = {
        "left": (round(whole.left + 0.3 * whole.width), 0, *picture.size),
        "right": (0, 0, round(whole.right - 0.3 * whole.width), picture.height),
        "top": (0, round(whole.top + 0.3 * whole.height), *picture.size),
        "bottom": (0, 0, picture.width, round(whole.bottom - 0.3 * whole.height)),
    }[side]
    rest = picture.crop(box)
    assert refusal(detector.detect(rest), rest.size) == "PORTRAIT_FACE_CUT_OFF"
