"""The second walk through a video: the pictures and landmarks of its takes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from mirrorme_training.footage.face_geometry import Points
from mirrorme_training.footage.landmarks import Floats, Landmarker, Pixels
from mirrorme_training.footage.source_video import SourceVideo
from mirrorme_training.footage.survey import Take

_MAX_LANDMARK_PX = 768
_MAX_GAP_FRAMES = 4


@dataclass(frozen=True)
class TakeFootage:
    """What one take holds."""

    take: Take
    pictures: NDArray[np.uint8]
    """[T, size, size, 3]"""
    face: Points
    """[T, 478, 3] in 0 to 1 of the crop, short gaps bridged, NaN where there is none"""
    hands: Points
    """[T, 2, 21, 2] likewise, not bridged"""
    blendshapes: Floats
    """[T, 52]"""


class _Growing:
    def __init__(self, take: Take, size_px: int) -> None:
        self.take = take
        self.pictures = np.empty((len(take.frames), size_px, size_px, 3), np.uint8)
        self.face: list[Floats] = []
        self.hands: list[Floats] = []
        self.blendshapes: list[Floats] = []

    def done(self) -> TakeFootage:
        return TakeFootage(
            self.take,
            self.pictures,
            bridge_gaps(np.stack(self.face).astype(np.float64)),
            np.stack(self.hands).astype(np.float64),
            np.stack(self.blendshapes),
        )


def read_takes(
    video: SourceVideo, takes: list[Take], landmarker: Landmarker, size_px: int,
    watch: Callable[[int], None],
) -> Iterator[TakeFootage]:  # fmt: skip
    """Each take as soon as it is whole. Takes of one framing do not overlap.

    A walk serves one framing: the landmarker follows one square at a time.
    """
    waiting = sorted(takes, key=lambda take: take.frames.start)
    growing: _Growing | None = None
    last = waiting[-1].frames.stop if waiting else 0
    for number, picture in enumerate(video.frames()):
        watch(number)
        if number >= last:
            return
        if growing is None and waiting and waiting[0].frames.start == number:
            growing = _Growing(waiting.pop(0), size_px)
            landmarker.restart()
        if growing is None:
            continue
        crop = np.ascontiguousarray(growing.take.crop.of(picture))
        found = landmarker.landmarks(_resized(crop, min(crop.shape[0], _MAX_LANDMARK_PX)))
        growing.pictures[len(growing.face)] = _resized(crop, size_px)
        growing.face.append(found.face)
        growing.hands.append(found.hands)
        growing.blendshapes.append(found.blendshapes)
        if number + 1 == growing.take.frames.stop:
            yield growing.done()
            growing = None


def bridge_gaps(points: Points) -> Points:
    """Straight lines over at most 4 frames without a face, `[T, ...]`."""
    result = points.copy()
    seen = np.flatnonzero(np.isfinite(points.reshape(len(points), -1)).all(axis=1))
    for a, b in itertools.pairwise(seen):
        if 1 < b - a <= _MAX_GAP_FRAMES + 1:
            for i in range(a + 1, b):
                share = (i - a) / (b - a)
                result[i] = (1 - share) * points[a] + share * points[b]
    return result


def _resized(picture: Pixels, side_px: int) -> Pixels:
    if picture.shape[0] == side_px:
        return picture
    how = cv2.INTER_AREA if side_px < picture.shape[0] else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(picture, (side_px, side_px), interpolation=how), np.uint8)
