"""Reads the served controls from frames, fitted for one person on rendered truth."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mirrorme_training.evaluation.crop import Window, cut, features, worn
from mirrorme_training.evaluation.curves import trunk_shifts_px
from mirrorme_training.evaluation.face_reader import (
    FaceLocator,
    as_float,
    eyes_above_mouth,
    mouth_places,
)
from mirrorme_training.evaluation.fitting_poses import EYE_CONTROLS, FACE_CONTROLS, control_poses
from mirrorme_training.evaluation.kernel_ridge import KernelRidge
from mirrorme_training.portrait_identity import Identity
from mirrorme_training.portrait_pose import BREATH, CONTROL_INDEX, HEAD_CONTROLS
from mirrorme_training.portrait_renderer import render

_BATCH_FRAMES = 256
_CHEEK_CONTROLS = ("cheekPuff", "noseSneerLeft", "noseSneerRight")
_PARTS = {
    "mouth": tuple(name for name in FACE_CONTROLS if name not in _CHEEK_CONTROLS),
    "cheeks": _CHEEK_CONTROLS,
    "eyes": EYE_CONTROLS,
    "head": HEAD_CONTROLS,
}
"""Which part of the frame each control is read from."""


class ControlReader:
    """Owns the fits for one person. Each fit was shown the other controls moving as well.

    Parts are cut out where the head has them; the mouth also where the lips are. By the lips alone,
    what moves their corners would go unseen; by the head alone, what moves them little.

    Breath is not fitted: it is the pixels that the trunk has come up since the first frame.
    """

    def __init__(self, person: Identity, size_px: int, num_poses: int, seed: int = 2) -> None:
        generator = torch.Generator().manual_seed(seed)
        shown = render(person, control_poses(seed, num_poses), size_px)
        clean = as_float(shown.frames)
        frames = torch.cat([clean, worn(clean, generator)])
        box = shown.face_box_px
        middles = (box[:, :2] + box[:, 2:]) / 2
        rolls = torch.deg2rad(shown.controls[:, CONTROL_INDEX["head_roll"]])
        self._locate = FaceLocator(frames, shown, middles, rolls)
        mouths, mouth_rolls = mouth_places(shown)
        self._locate_lips = FaceLocator(frames, shown, mouths, mouth_rolls)
        to_mouth = _turned(mouths - middles, -rolls).mean(0)
        half_x, half_y = self._locate.half_face_px.tolist()
        self._windows = {
            "mouth": Window(0.5 * half_x, 0.4 * half_y, 48, 32),
            "cheeks": Window(0.75 * half_x, 0.6 * half_y, 44, 36),
            "eyes": Window(0.7 * half_x, 0.36 * half_y, 56, 26),
            "head": Window(1.3 * half_x, 1.3 * half_y, 36, 44),
        }
        eyes_px = eyes_above_mouth(self._locate.half_face_px)
        self._below_lips_px = 0.08 * half_y
        below_mouth_px = {"mouth": self._below_lips_px, "cheeks": -0.1 * half_y, "eyes": -eyes_px}
        self._to_part = {
            part: to_mouth + torch.tensor([0.0, down]) for part, down in below_mouth_px.items()
        }
        self._head_px = mouths.mean(0) - torch.tensor([0.0, eyes_px / 2])
        self._fits = {part: self._fitted(part, frames, shown.controls) for part in _PARTS}

    def read(self, frames: NDArray[np.uint8]) -> dict[str, NDArray[np.float64]]:
        """`[T, H, W, 3]` frames to `[T]` of each control."""
        found: dict[str, list[Tensor]] = {}
        for start in range(0, len(frames), _BATCH_FRAMES):
            some = as_float(torch.from_numpy(frames[start : start + _BATCH_FRAMES]))
            for part, names in _PARTS.items():
                values = self._fits[part](self._features(part, some))
                for column, name in enumerate(names):
                    found.setdefault(name, []).append(values[:, column])
        values = {name: torch.cat(parts).double().numpy() for name, parts in found.items()}
        return {**values, BREATH: -trunk_shifts_px(frames)}

    def _fitted(self, part: str, frames: Tensor, controls: Tensor) -> KernelRidge:
        values = controls[:, [CONTROL_INDEX[name] for name in _PARTS[part]]]
        values = values.repeat(len(frames) // len(values), 1)
        features = self._features(part, frames)
        return KernelRidge(features, values, num_components=300, width=3.0, strength=1e-3)

    def _features(self, part: str, frames: Tensor) -> Tensor:
        window = self._windows[part]
        if part == "head":
            return features(cut(frames, self._head_px.expand(len(frames), 2), window))
        middles, rolls = self._locate(frames)
        seen = features(cut(frames, middles + _turned(self._to_part[part], rolls), window, rolls))
        if part != "mouth":
            return seen
        middles, rolls = self._locate_lips(frames)
        below = middles + torch.tensor([0.0, self._below_lips_px])
        return torch.cat([seen, features(cut(frames, below, window, rolls))], dim=1)


def _turned(vectors: Tensor, angles: Tensor) -> Tensor:
    """`[T, 2]`, or one `[2]`, by `[T]` radians clockwise."""
    cos, sin = angles.cos(), angles.sin()
    x, y = vectors.unbind(-1)
    return torch.stack([cos * x - sin * y, sin * x + cos * y], dim=-1)
