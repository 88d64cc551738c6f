"""Whom a shot shows, and the square that is cut out of it."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mirrorme_training.footage.footage_config import FootageConfig, Framing
from mirrorme_training.footage.landmarks import FaceBox, Pixels
from mirrorme_training.footage.verdicts import Verdict

_CLOSE_UP_SIDE, _CLOSE_UP_CENTRE = 2.3, 0.5
_HALF_BODY_SIDE, _HALF_BODY_CENTRE = 4.4, 0.27
"""Faces high: the square's side, and where in it the face's middle is."""
_MIN_CLOSE_UP_SIDE, _MIN_HALF_BODY_SIDE = 1.4, 2.9
_MAX_GAP_FRAMES = 6
_OTHER_FACE = 0.35
"""Share of the person's face height from which another face counts."""
_CUT = 0.1
"""Share of the face's size that may be outside."""


@dataclass(frozen=True)
class Crop:
    """A square, in pixels of the upright picture."""

    left: int
    top: int
    side_px: int

    def of(self, picture: Pixels) -> Pixels:
        """The square `[side, side, 3]`."""
        rows = slice(self.top, self.top + self.side_px)
        return picture[rows, self.left : self.left + self.side_px]


def main_person(faces: list[list[FaceBox]]) -> list[FaceBox | None]:
    """The face that is largest for longest, frame by frame; short gaps are bridged."""
    tracks: list[dict[int, FaceBox]] = []
    for number, boxes in enumerate(faces):
        free = [t for t in tracks if number - max(t) <= _MAX_GAP_FRAMES]
        for box in sorted(boxes, key=lambda b: -b.height):
            near = [t for t in free if _same_place(t[max(t)], box)]
            if near:
                best = min(near, key=lambda t: _distance(t[max(t)], box))
                free.remove(best)
                best[number] = box
            else:
                tracks.append({number: box})
    if not tracks:
        return [None] * len(faces)
    main = max(tracks, key=lambda track: sum(box.height for box in track.values()))
    return _bridged([main.get(number) for number in range(len(faces))])


def choose_crop(
    framing: Framing, person: list[FaceBox | None], width_px: int, height_px: int
) -> Crop | None:
    """One square for a whole shot; None where the picture has no room for the framing."""
    boxes = [box for box in person if box is not None]
    if not boxes:
        return None
    face_px = float(np.percentile([box.height for box in boxes], 75)) * height_px
    x = np.array([(box.left + box.right) / 2 for box in boxes]) * width_px
    y = np.array([(box.top + box.bottom) / 2 for box in boxes]) * height_px
    spread = max(float(np.subtract(*np.percentile(v, [95, 5]))) for v in (x, y))
    close = framing == "close_up"
    wanted = _CLOSE_UP_SIDE if close else _HALF_BODY_SIDE
    least = _MIN_CLOSE_UP_SIDE if close else _MIN_HALF_BODY_SIDE
    side = min(wanted * face_px + min(spread, face_px), width_px, height_px)
    if side < least * face_px:
        return None
    side_px = int(side) // 2 * 2
    centre = _CLOSE_UP_CENTRE if close else _HALF_BODY_CENTRE
    left = np.clip(np.median(x) - side_px / 2, 0, width_px - side_px)
    top = np.clip(np.median(y) - side_px * centre, 0, height_px - side_px)
    return Crop(int(left), int(top), side_px)


def judge_faces(
    faces: list[list[FaceBox]],
    person: list[FaceBox | None],
    crop: Crop,
    size_px: tuple[int, int],
    config: FootageConfig,
) -> NDArray[np.int64]:
    """Verdicts `[T]` on a shot's frames from where faces are; `size_px` is width and height."""
    verdicts = np.full(len(faces), int(Verdict.KEPT))
    if crop.side_px < config.min_pixels * config.size_px:
        verdicts[:] = Verdict.FACE_SMALL
        return verdicts
    for number, (box, boxes) in enumerate(zip(person, faces, strict=True)):
        if box is None:
            verdicts[number] = Verdict.NO_FACE
        elif any(_disturbs(other, box, crop, size_px) for other in boxes):
            verdicts[number] = Verdict.SEVERAL_FACES
        elif not _inside(box, crop, size_px):
            verdicts[number] = Verdict.FACE_CUT
    return verdicts


def _disturbs(other: FaceBox, box: FaceBox, crop: Crop, size_px: tuple[int, int]) -> bool:
    if other.height < _OTHER_FACE * box.height or _distance(other, box) < 0.3:
        return False
    x = (other.left + other.right) / 2 * size_px[0] - crop.left
    y = (other.top + other.bottom) / 2 * size_px[1] - crop.top
    return 0 <= x <= crop.side_px and 0 <= y <= crop.side_px


def _inside(box: FaceBox, crop: Crop, size_px: tuple[int, int]) -> bool:
    slack = _CUT * box.height * size_px[1]
    left, right = box.left * size_px[0] - crop.left, box.right * size_px[0] - crop.left
    top, bottom = box.top * size_px[1] - crop.top, box.bottom * size_px[1] - crop.top
    return min(left, top) >= -slack and max(right, bottom) <= crop.side_px + slack


def _distance(a: FaceBox, b: FaceBox) -> float:
    """Of the middles, in sizes of the larger face."""
    dx = abs(a.left + a.right - b.left - b.right) / 2 / max(a.width, b.width)
    dy = abs(a.top + a.bottom - b.top - b.bottom) / 2 / max(a.height, b.height)
    return float(np.hypot(dx, dy))


def _same_place(a: FaceBox, b: FaceBox) -> bool:
    ratio = a.height / b.height
    return _distance(a, b) < 0.6 and 0.5 < ratio < 2


def _bridged(track: list[FaceBox | None]) -> list[FaceBox | None]:
    result = list(track)
    seen = [number for number, box in enumerate(track) if box is not None]
    for a, b in itertools.pairwise(seen):
        first, last = track[a], track[b]
        assert first is not None and last is not None
        for number in range(a + 1, b):
            share = (number - a) / (b - a)
            moved = {
                name: getattr(first, name) + share * (getattr(last, name) - getattr(first, name))
                for name in ("left", "top", "right", "bottom")
            }
            result[number] = replace(first, **moved)
    return result
