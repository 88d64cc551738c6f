"""Portrait files to the model's picture: modes, errors' fields, threads."""

import asyncio
import io
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from mirrorme.animate.v1 import animation_pb2 as pb
from mirrorme_service.errors import InvalidRequest, TimedOut
from mirrorme_service.face_detector import Face, FaceDetector
from mirrorme_service.picture import Picture
from mirrorme_service.picture_decoders import PictureDecoders
from mirrorme_service.picture_file import decode_picture
from mirrorme_service.picture_format import PictureLimits
from mirrorme_service.portrait import FittedPortrait, PortraitReader, fit_portrait
from PIL import Image

from tests.service.shared_assets import shared_asset

ROOT = Path(__file__).parents[2]
BODY, CLOSE = pb.CROP_MODE_UPPER_BODY, pb.CROP_MODE_FACE
CENTER, PAD = pb.CROP_MODE_CENTER, pb.CROP_MODE_PAD
FIELD = "config.portrait.image"


class FakeFinder:
    """Finds what it is told to; counts, and can be held up. `called` is set by the first call."""

    def __init__(self, *faces: Face) -> None:
        self.faces = list(faces)
        self.num_calls = 0
        self.called = threading.Event()
        self.called_twice = threading.Event()
        self.go_on = threading.Event()
        self.go_on.set()

    def detect(self, picture: Picture) -> list[Face]:
        self.num_calls += 1
        self.called.set()
        if self.num_calls == 2:
            self.called_twice.set()
        assert self.go_on.wait(10)
        return self.faces


def file_of(width: int = 400, height: int = 300) -> bytes:
    buffer = io.BytesIO()
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0] = np.linspace(0, 255, width)
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def fit(data: bytes, mode: pb.CropMode, finder: FakeFinder | FaceDetector) -> FittedPortrait:
    return fit_portrait(decode_picture(data), mode, (64, 96), finder, field=FIELD)


@pytest.mark.parametrize("mode", [BODY, CLOSE, CENTER, PAD])
def test_every_mode_fills_the_frame(mode: pb.CropMode) -> None:
    finder = FakeFinder(Face(180, 100, 220, 150, 0.9))
    fitted = fit(file_of(), mode, finder)
    assert fitted.pixels.shape == (96, 64, 3)
    assert fitted.pixels.dtype == np.uint8
    assert not fitted.pixels.flags.writeable
    assert (fitted.source_width_px, fitted.source_height_px) == (400, 300)
    assert finder.num_calls == (1 if mode in (BODY, CLOSE) else 0)


def test_modes_differ() -> None:
    finder = FakeFinder(Face(180, 100, 220, 150, 0.9))
    boxes = [fit(file_of(), mode, finder).crop for mode in (CLOSE, BODY, CENTER, PAD)]
    heights = [box.height_px for box in boxes]
    assert heights == sorted(set(heights))


@pytest.mark.parametrize("mode", [BODY, CLOSE])
def test_modes_that_need_a_face_refuse_without(mode: pb.CropMode) -> None:
    with pytest.raises(InvalidRequest) as caught:
        fit(file_of(), mode, FakeFinder())
    assert (caught.value.reason, caught.value.field) == ("PORTRAIT_NO_FACE", FIELD)


def test_an_unresolved_mode_is_our_mistake() -> None:
    with pytest.raises(ValueError, match="crop mode"):
        fit(file_of(), pb.CROP_MODE_UNSPECIFIED, FakeFinder())


def test_the_client_is_told_size_and_crop() -> None:
    info = fit(file_of(), PAD, FakeFinder()).to_info("id")
    assert info.portrait_id == "id"
    assert (info.source_size.width_px, info.source_size.height_px) == (400, 300)
    assert (info.crop.x_px, info.crop.y_px) == (0, -150)
    assert (info.crop.width_px, info.crop.height_px) == (400, 600)


@pytest.mark.parametrize("mode", [BODY, CLOSE])
@pytest.mark.parametrize("name", ["portrait_1", "portrait_2", "portrait_3"])
def test_drawn_portraits_of_the_repository(name: str, mode: pb.CropMode) -> None:
    data = (ROOT / "examples" / f"{name}.png").read_bytes()
    detector = FaceDetector()
    fitted = fit_portrait(decode_picture(data), mode, (256, 256), detector, field=FIELD)
    (face,) = detector.detect(Image.fromarray(fitted.pixels))
    assert 110 < (face.left + face.right) / 2 < 146
    low, high = (0.24, 0.42) if mode == BODY else (0.45, 0.68)
    assert low < face.height / 256 < high
    assert face.top > 0.3 * face.height, "no room for the hair"


@pytest.mark.parametrize(
    "name", ["portraits/woman_frontal.png", "negatives/portrait_32bit_alpha.png"]
)
def test_real_portraits_with_alpha(name: str) -> None:
    fitted = fit(shared_asset(name), BODY, FaceDetector())
    (face,) = FaceDetector().detect(Image.fromarray(fitted.pixels).resize((512, 768)))
    assert 0.24 < face.height / 768 < 0.42


# In threads


@pytest.fixture
def finder() -> FakeFinder:
    return FakeFinder(Face(180, 100, 220, 150, 0.9))


@pytest.fixture(scope="module")
def decoders() -> Iterator[PictureDecoders]:
    decoders = PictureDecoders()
    yield decoders
    decoders.close()


async def test_the_reader_gives_what_fitting_gives(
    finder: FakeFinder, decoders: PictureDecoders
) -> None:
    reader = PortraitReader(64, 96, finder, decoders)
    fitted = await reader.read(file_of(), BODY, field=FIELD)
    assert np.array_equal(fitted.pixels, fit(file_of(), BODY, finder).pixels)
    reader.close()
    reader.close()


async def test_errors_come_through_the_thread(
    finder: FakeFinder, decoders: PictureDecoders
) -> None:
    reader = PortraitReader(64, 96, finder, decoders, PictureLimits(max_bytes=10))
    with pytest.raises(InvalidRequest) as caught:
        await reader.read(file_of(), BODY, field="image")
    assert (caught.value.reason, caught.value.field) == ("PORTRAIT_TOO_LARGE", "image")
    reader.close()


async def test_the_loop_goes_on_meanwhile(finder: FakeFinder, decoders: PictureDecoders) -> None:
    reader = PortraitReader(64, 96, finder, decoders)
    finder.go_on.clear()
    reading = asyncio.create_task(reader.read(file_of(), BODY, field=FIELD))
    assert await asyncio.to_thread(finder.called.wait, 10)
    assert not reading.done()
    finder.go_on.set()
    assert (await reading).pixels.shape == (96, 64, 3)
    reader.close()


async def test_a_portrait_that_takes_too_long_is_given_up(
    finder: FakeFinder, decoders: PictureDecoders
) -> None:
    reader = PortraitReader(64, 96, finder, decoders, max_time_s=0.05)
    finder.go_on.clear()
    with pytest.raises(TimedOut) as caught:
        await reader.read(file_of(), BODY, field=FIELD)
    assert caught.value.reason == "PORTRAIT_TIMED_OUT"
    assert caught.value.retry_after_s is not None
    finder.go_on.set()
    reader.close()


async def test_only_so_many_are_decoded_at_once(
    finder: FakeFinder, decoders: PictureDecoders
) -> None:
    reader = PortraitReader(64, 96, finder, decoders, num_threads=2)
    finder.go_on.clear()
    readings = [asyncio.create_task(reader.read(file_of(), BODY, field=FIELD)) for _ in range(5)]
    assert await asyncio.to_thread(finder.called_twice.wait, 10)
    await asyncio.sleep(0.1)
    assert finder.num_calls == 2
    finder.go_on.set()
    assert len(await asyncio.gather(*readings)) == 5
    reader.close()


async def test_a_caller_that_goes_away_disturbs_nobody(
    finder: FakeFinder, decoders: PictureDecoders
) -> None:
    reader = PortraitReader(64, 96, finder, decoders, num_threads=1)
    finder.go_on.clear()
    gone, waiting, other = (
        asyncio.create_task(reader.read(file_of(), BODY, field=FIELD)) for _ in range(3)
    )
    assert await asyncio.to_thread(finder.called.wait, 10)
    gone.cancel()
    waiting.cancel()
    await asyncio.sleep(0)
    finder.go_on.set()
    assert (await other).pixels.shape == (96, 64, 3)
    assert gone.cancelled()
    assert waiting.cancelled()
    reader.close()


class HeldExecutor(ThreadPoolExecutor):
    """Finishes nothing by itself: the test does."""

    def __init__(self) -> None:
        super().__init__(1)
        self.submitted: Future[object] = Future()

    def submit(self, *_args, **_kwargs) -> Future[object]:  # pyright: ignore
        return self.submitted


async def test_a_cancellation_that_comes_with_the_result_is_not_lost(
    finder: FakeFinder, decoders: PictureDecoders
) -> None:
    reader = PortraitReader(64, 64, finder, decoders)
    executor = reader._threads = HeldExecutor()
    task = asyncio.create_task(reader.read(file_of(), pb.CROP_MODE_CENTER, field="image"))
    await asyncio.sleep(0)
    executor.submitted.set_result("a portrait")
    asyncio.get_running_loop().call_soon(task.cancel)
    with pytest.raises(asyncio.CancelledError):
        await task
    reader.close()
