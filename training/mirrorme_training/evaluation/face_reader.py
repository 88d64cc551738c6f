"""Reads a face from frames: where the mouth is, how far it is open, whether the eyes are.

Fitted for one person on rendered frames, whose truth is known, and on worn copies of them; never on
frames that a model made.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mirrorme_training.evaluation.crop import Window, cut, features, worn
from mirrorme_training.evaluation.fitting_poses import talking_poses
from mirrorme_training.evaluation.kernel_ridge import KernelRidge
from mirrorme_training.portrait_identity import Identity
from mirrorme_training.portrait_pose import CONTROL_INDEX
from mirrorme_training.portrait_renderer import RenderedFrames, render

CLOSED_RATIO = 0.05
"""Lips are closed below this opening over the mouth's width: less than 1.5 pixels at 256."""
_BATCH_FRAMES = 256
_MARGIN_PX = 4
_ROLL_UNIT = 50.0
_JITTER_PX = 0.6


@dataclass(frozen=True)
class FaceReading:
    """Curves over the frames."""

    mouth_opening: NDArray[np.float64]
    """[T] opening over the mouth's width at rest"""
    eyes_closed: NDArray[np.float64]
    """[T] 0 to 1"""


class FaceLocator:
    """Where a part of the face is, from the part of the frame where heads are."""

    def __init__(
        self, frames: Tensor, shown: RenderedFrames, places_px: Tensor, rolls: Tensor
    ) -> None:
        """
        Args:
            frames: `[K T, H, W, 3]` 0 to 1: K versions of the frames.
            shown: `[T]` what is true of each version.
            places_px: `[T, 2]` of the part.
            rolls: `[T]` radians by which it is turned clockwise.
        """
        box = shown.face_box_px
        low, high = box[:, :2].amin(0), box[:, 2:].amax(0)
        self._middle = (low + high) / 2
        half = (high - low) / 2 + _MARGIN_PX
        self._window = Window(float(half[0]), float(half[1]), 28, 32)
        self.half_face_px = half
        truth = torch.cat([places_px, rolls[:, None] * _ROLL_UNIT], dim=1)
        copies = len(frames) // len(truth)
        self._fit = KernelRidge(self._features(frames), truth.repeat(copies, 1))

    def __call__(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Places `[T, 2]` in pixels, and rolls `[T]` in radians."""
        found = self._fit(self._features(frames))
        return found[:, :2], found[:, 2] / _ROLL_UNIT

    def _features(self, frames: Tensor) -> Tensor:
        return features(cut(frames, self._middle.expand(len(frames), 2), self._window))


class FaceReader:
    """Owns the fits for one person."""

    def __init__(self, person: Identity, size_px: int, num_poses: int, seed: int = 1) -> None:
        generator = torch.Generator().manual_seed(seed)
        shown = render(person, talking_poses(seed, num_poses), size_px)
        clean = as_float(shown.frames)
        frames = torch.cat([clean, worn(clean, generator)])
        self.locate = FaceLocator(frames, shown, *mouth_places(shown))
        widest = _across(shown).norm(dim=1).amax()
        tallest = float(shown.mouth_open_px.amax())
        self._drop_px = tallest / 4
        self._mouth = Window(float(widest) / 2 + 3, tallest / 2 + 10 * size_px / 256, 32, 28)
        self._eyes = eye_window(self.locate.half_face_px)
        self._eyes_up_px = eyes_above_mouth(self.locate.half_face_px)
        middles, rolls = self.locate(frames)
        middles = middles + _JITTER_PX * torch.randn(middles.shape, generator=generator)
        blink = 0.5 * (_column(shown, "eyeBlinkLeft") + _column(shown, "eyeBlinkRight"))
        self._opening = KernelRidge(
            self._mouth_features(frames, middles, rolls),
            shown.mouth_open_ratio.repeat(2)[:, None],
        )
        self._blink = KernelRidge(
            self._eye_features(frames, middles, rolls), blink.repeat(2)[:, None]
        )

    def read(self, frames: NDArray[np.uint8]) -> FaceReading:
        """Reads `[T, H, W, 3]` frames."""
        openings, blinks = [], []
        for start in range(0, len(frames), _BATCH_FRAMES):
            some = as_float(torch.from_numpy(frames[start : start + _BATCH_FRAMES]))
            middles, rolls = self.locate(some)
            openings.append(self._opening(self._mouth_features(some, middles, rolls))[:, 0])
            blinks.append(self._blink(self._eye_features(some, middles, rolls))[:, 0])
        return FaceReading(*(torch.cat(x).double().numpy() for x in (openings, blinks)))

    def _mouth_features(self, frames: Tensor, middles: Tensor, rolls: Tensor) -> Tensor:
        below = middles + torch.tensor([0.0, self._drop_px])
        return features(cut(frames, below, self._mouth, rolls))

    def _eye_features(self, frames: Tensor, middles: Tensor, rolls: Tensor) -> Tensor:
        above = middles - torch.tensor([0.0, self._eyes_up_px])
        return features(cut(frames, above, self._eyes, rolls))


def mouth_places(shown: RenderedFrames) -> tuple[Tensor, Tensor]:
    """Middles between the lips' corners `[T, 2]` in pixels, and how lips are turned `[T]`, radians
    clockwise."""
    across = _across(shown)
    return shown.mouth_corners_px.mean(1), torch.atan2(across[:, 1], across[:, 0])


def _across(shown: RenderedFrames) -> Tensor:
    return shown.mouth_corners_px[:, 0] - shown.mouth_corners_px[:, 1]


def eye_window(half_face_px: Tensor) -> Window:
    """The part of a face with eyes and brows."""
    return Window(0.8 * float(half_face_px[0]), 0.36 * float(half_face_px[1]), 44, 22)


def eyes_above_mouth(half_face_px: Tensor) -> float:
    """From the middle of the mouth up to that of `eye_window`, pixels."""
    return 0.86 * float(half_face_px[1])


def as_float(frames: Tensor) -> Tensor:
    """uint8 to 0 to 1."""
    return frames.float() / 255


def _column(shown: RenderedFrames, name: str) -> Tensor:
    return shown.controls[:, CONTROL_INDEX[name]]
