"""Controls as users may set them: any of them, anywhere in its reach, whatever the others do."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mirrorme_training.motion_noise import FRAME_RATE, Curve, holds
from mirrorme_training.portrait_pose import (
    BREATH,
    CONTROL_INDEX,
    CONTROLS,
    GAZE_CONTROLS,
    HEAD_CONTROLS,
)

_HEAD_REACH_DEGREES = 18.0
_MOST_TOGETHER = 12
_JAW_UNDER_CLOSED_LIPS = 0.5
"""`mouthClose` shows only while the jaw is down."""
_LEFT, _RIGHT = "Left", "Right"


def exercise(controls: NDArray[np.float64], random: np.random.Generator) -> None:
    """Moves a few controls by chance in a clip without speech, `[T, controls]`, in place."""
    count = len(controls)
    for name in ("jawOpen", "mouthClose"):
        controls[:, CONTROL_INDEX[name]] = 0.0
    for name in random.permutation(CONTROLS)[: int(random.integers(1, _MOST_TOGETHER + 1))]:
        curve = _curve(str(name), count, random)
        controls[:, CONTROL_INDEX[name]] = curve
        if name == "mouthClose":
            jaw = controls[:, CONTROL_INDEX["jawOpen"]]
            jaw[:] = np.maximum(jaw, _JAW_UNDER_CLOSED_LIPS)
        other = _other_side(str(name))
        if other is not None and random.random() < 0.5:
            controls[:, CONTROL_INDEX[other]] = curve


def _curve(name: str, count: int, random: np.random.Generator) -> Curve:
    """From hold to hold; a third of them at rest, else anywhere."""
    starts, lengths, targets, frame = [0], [1], [0.0], 0.0
    while frame < count:
        starts.append(int(frame))
        lengths.append(int(random.integers(3, 25)))
        at_rest = random.random() < 0.35
        targets.append(0.0 if at_rest else _drawn(name, random))
        frame += lengths[-1] + random.exponential(0.25) * FRAME_RATE
    return holds(count, np.array(targets)[:, None], np.array(starts), np.array(lengths))[:, 0]


def _drawn(name: str, random: np.random.Generator) -> float:
    if name in HEAD_CONTROLS:
        return float(random.uniform(-_HEAD_REACH_DEGREES, _HEAD_REACH_DEGREES))
    if name in GAZE_CONTROLS or name == BREATH:
        return float(random.uniform(-1, 1))
    return float(random.uniform(0.2, 1.0))


def _other_side(name: str) -> str | None:
    if name.endswith(_LEFT):
        return name.removesuffix(_LEFT) + _RIGHT
    return name.removesuffix(_RIGHT) + _LEFT if name.endswith(_RIGHT) else None
