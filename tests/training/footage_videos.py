"""Small videos of a drawn head that speaks the example speech, and a detector that finds it."""

from __future__ import annotations

import itertools
import wave
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import numpy as np
from mirrorme_training.footage.landmarks import (
    BLENDSHAPE_NAMES,
    NUM_FACE_POINTS,
    FaceBox,
    FrameLandmarks,
    Pixels,
)
from numpy.typing import NDArray

EXAMPLE_SPEECH = Path(__file__).parents[2] / "examples" / "speech.wav"
RATE_HZ = 16000
_FACE, _MOUTH = np.array([230, 180, 150]), np.array([120, 10, 20])
_BACKGROUNDS = (np.array([40, 70, 120]), np.array([60, 130, 60]))


def example_speech() -> NDArray[np.float32]:
    """7.2 s."""
    with wave.open(str(EXAMPLE_SPEECH)) as file:
        return np.frombuffer(file.readframes(file.getnframes()), "<i2") / np.float32(32768)


def spoken_opening(sound: NDArray[np.float32], num_frames: int) -> NDArray[np.float64]:
    """A mouth that opens with the level of the sound, 0 to 1."""
    edges = np.linspace(0, num_frames * RATE_HZ / 24, num_frames + 1).astype(int)
    level = [
        np.abs(sound[a:b]).mean() if a < len(sound) else 0 for a, b in itertools.pairwise(edges)
    ]
    return np.clip(np.array(level) / 0.12, 0, 1)


def draw_head(
    opening: float, *, width: int = 192, height: int = 160, x: float = 0.5, y: float = 0.5,
    face: float = 0.4, scene: int = 0,
) -> Pixels:  # fmt: skip
    """A striped box with a dark mouth; `face` is its height of the picture's."""
    picture = np.empty((height, width, 3), np.uint8)
    picture[:] = _BACKGROUNDS[scene]
    size = round(face * height)
    left, top = round(x * width - size / 2), round(y * height - size / 2)
    rows, columns = np.mgrid[0:height, 0:width]
    inside = (rows >= top) & (rows < top + size) & (columns >= left) & (columns < left + size)
    stripes = 1 - 0.25 * (((rows - top) // 3) % 2)
    picture[inside] = (_FACE * stripes[..., None])[inside]
    gap = 1 + opening * 0.25 * size
    mouth = (abs(rows - top - 0.72 * size) <= gap / 2) & (abs(columns - left - size / 2) < size / 5)
    picture[mouth & inside] = _MOUTH
    return picture


def write_video(
    path: Path,
    pictures: list[Pixels],
    sound: NDArray[np.float32] | None,
    *,
    times_s: list[float] | None = None,
    sound_start_s: float = 0.0,
    crf: int = 10,
) -> Path:
    """H.264 and AAC; `times_s` of the pictures, 24 a second if not given."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=24)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": str(crf), "preset": "ultrafast", "bf": "0"}
        stream.codec_context.time_base = Fraction(1, 1200)
        heard = None
        if sound is not None:
            heard = container.add_stream("aac", rate=RATE_HZ, layout="mono")
        for number, pixels in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            time_s = number / 24 if times_s is None else times_s[number]
            frame.pts, frame.time_base = round(time_s * 1200), Fraction(1, 1200)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if heard is not None and sound is not None:
            frame = av.AudioFrame.from_ndarray(sound[None], format="flt", layout="mono")
            frame.sample_rate, frame.time_base = RATE_HZ, Fraction(1, RATE_HZ)
            frame.pts = round(sound_start_s * RATE_HZ)
            container.mux(heard.encode(frame))
            container.mux(heard.encode())
    return path


def talking(path: Path, seconds: float = 7.0, *, lag_frames: int = 0, **head: float) -> Path:
    """A head that says the example speech; `lag_frames` later than it is heard."""
    num_frames = round(seconds * 24)
    sound = example_speech()[: round(seconds * RATE_HZ)]
    opening = np.roll(spoken_opening(sound, num_frames), lag_frames)
    return write_video(path, [draw_head(o, **head) for o in opening], sound)


@dataclass
class DrawnHeads:
    """A `Landmarker` that finds drawn heads by their colour. Its own context manager."""

    before_faces: Callable[[int], None] = lambda number: None
    opened: list[int] = field(default_factory=list)
    _seen: int = 0

    def __enter__(self) -> DrawnHeads:
        self.opened.append(1)
        self._seen = 0
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        pass

    def restart(self) -> None:
        pass

    def faces(self, picture: Pixels) -> list[FaceBox]:
        self.before_faces(self._seen)
        self._seen += 1
        height, width, _ = picture.shape
        boxes = []
        for columns in _runs(_skin(picture).sum(axis=0) > 3):
            rows = np.flatnonzero(_skin(picture)[:, columns].sum(axis=1) > 3)
            if len(columns) > 8 and len(rows) > 8:
                box = (columns[0] / width, rows[0] / height)
                boxes.append(FaceBox(*box, (columns[-1] + 1) / width, (rows[-1] + 1) / height, 0.9))
        return boxes

    def landmarks(self, picture: Pixels) -> FrameLandmarks:
        face = np.full((NUM_FACE_POINTS, 3), np.nan, np.float32)
        if boxes := self.faces(picture):
            box = max(boxes, key=lambda b: b.height)
            face[:] = _mesh(box, _gap(picture))
        return FrameLandmarks(
            face,
            np.full((2, 21, 2), np.nan, np.float32),
            np.full(len(BLENDSHAPE_NAMES), np.nan, np.float32),
        )


def _skin(picture: Pixels) -> NDArray[np.bool_]:
    red, green, blue = (picture[..., i].astype(int) for i in range(3))
    return (red > 100) & (red > blue + 25) & (abs(red - green) < 110)


def _gap(picture: Pixels) -> float:
    dark = (picture[..., 0] > picture[..., 1].astype(int) + 60) & (picture[..., 1] < 70)
    rows = dark.sum(axis=1)
    return float(rows.sum() / max(1, rows.max()) / picture.shape[0])


def _mesh(box: FaceBox, gap: float) -> NDArray[np.float32]:
    """Flat, with the points that are measured in their places."""
    angles = np.linspace(0, 2 * np.pi, NUM_FACE_POINTS, endpoint=False)
    x, y = (box.left + box.right) / 2, (box.top + box.bottom) / 2
    mesh = np.zeros((NUM_FACE_POINTS, 3), np.float32)
    mesh[:, 0] = x + 0.48 * box.width * np.sin(angles)
    mesh[:, 1] = y - 0.48 * box.height * np.cos(angles)
    lips_y = box.top + 0.72 * box.height
    places = {
        10: (x, box.top), 152: (x, box.bottom), 234: (box.left, y), 454: (box.right, y),
        13: (x, lips_y - gap / 2), 14: (x, lips_y + gap / 2),
        61: (x - 0.2 * box.width, lips_y), 291: (x + 0.2 * box.width, lips_y),
        33: (x - 0.3 * box.width, y), 133: (x - 0.1 * box.width, y),
        263: (x + 0.3 * box.width, y), 362: (x + 0.1 * box.width, y),
        159: (x - 0.2 * box.width, y - 0.04), 145: (x - 0.2 * box.width, y + 0.04),
        386: (x + 0.2 * box.width, y - 0.04), 374: (x + 0.2 * box.width, y + 0.04),
        468: (x - 0.2 * box.width, y), 473: (x + 0.2 * box.width, y),
        127: (box.left, y), 356: (box.right, y),
    }  # fmt: skip
    for index, place in places.items():
        mesh[index, :2] = place
    return mesh


def _runs(mask: NDArray[np.bool_]) -> list[NDArray[np.int64]]:
    found = np.flatnonzero(mask)
    return [r for r in np.split(found, np.flatnonzero(np.diff(found) > 2) + 1) if len(r)]
