"""Hands that gesture with speech and rest in silence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from mirrorme_training.hand_skeleton import HandShape, hand_keypoints
from mirrorme_training.motion_noise import FRAME_RATE, Curve, drift, holds, smooth

HandMode = Literal["none", "left", "right", "both"]
BELOW_FRAME_Y = 5.2
"""Where a hand waits that is not seen, world units."""


@dataclass(frozen=True)
class Gesture:
    """A shape of the left hand; the right one is its mirror image."""

    curl: tuple[float, float, float, float]
    """Bend of index, middle, ring and little finger, radians a joint."""
    fan: float
    thumb: tuple[float, float]
    turn: tuple[float, float, float]


GESTURES = (
    Gesture((0.10, 0.10, 0.14, 0.20), 0.13, (0.85, 0.1), (-0.20, 0.20, -0.25)),  # open, forward
    Gesture((0.35, 0.40, 0.45, 0.50), 0.08, (0.60, 0.3), (-0.90, 0.30, -0.70)),  # offering
    Gesture((0.25, 0.25, 0.28, 0.32), 0.06, (0.60, 0.2), (-0.30, -1.10, -0.60)),  # edge on
    Gesture((0.85, 0.35, 0.35, 0.40), 0.10, (0.35, 0.8), (-0.25, -0.60, -0.35)),  # pinch
    Gesture((0.05, 1.35, 1.45, 1.45), 0.04, (0.30, 0.9), (0.00, -0.20, -0.20)),  # pointing up
    Gesture((1.25, 1.35, 1.40, 1.40), 0.00, (0.30, 0.9), (-0.20, -0.70, -0.50)),  # fist
    Gesture((0.30, 0.32, 0.36, 0.42), 0.12, (0.75, 0.2), (0.20, 2.50, -0.55)),  # back of the hand
    Gesture((0.55, 0.60, 0.62, 0.66), 0.10, (0.70, 0.4), (-0.40, 0.10, -0.30)),  # as if holding
)
_REST = Gesture((0.45, 0.50, 0.55, 0.60), 0.05, (0.40, 0.3), (-0.20, -1.30, -1.15))
_JOINTS = np.array([0.85, 1.0, 0.7])


def hand_motion(
    mode: HandMode, voice: Curve, beats: Curve, random: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Both hands through a clip.

    Args:
        voice: `[T]` 1.0 where there is speech, soft at its ends.
        beats: `[T]` emphasis of speech, about 0 to 1.

    Returns:
        Keypoints `[T, 2, 21, 3]` in world units and 1.0 where a hand is drawn `[T, 2]`; left first.
    """
    num_frames = len(voice)
    timing = _timing(voice, random)
    picks = random.integers(0, len(GESTURES), len(timing[0]))
    size = float(random.uniform(0.92, 1.06))
    hands, shown = [], []
    for side, name in ((1.0, "left"), (-1.0, "right")):
        seen = mode in ("both", name)
        own = np.where(random.random(len(picks)) < 0.25, random.integers(0, len(GESTURES)), picks)
        features = _targets(own, timing, voice, random)
        curve = holds(num_frames, features, timing[0], timing[1])
        curve[:, 9:12] += _tremble(num_frames, beats, random)
        if not seen:
            curve[:, 10] = BELOW_FRAME_Y
        hands.append(hand_keypoints(_shape(curve, side, size), side))
        shown.append(torch.full((num_frames,), float(seen)))
    return torch.stack(hands, dim=1), torch.stack(shown, dim=1)


def _timing(voice: Curve, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Start frames and lengths of movements, denser while there is speech."""
    starts, lengths, frame = [0], [1], random.uniform(0.1, 0.8) * FRAME_RATE
    while frame < len(voice):
        starts.append(int(frame))
        lengths.append(int(random.integers(7, 15)))
        speaking = voice[int(frame)] > 0.5
        gap_s = random.uniform(0.5, 1.6) if speaking else random.uniform(1.0, 3.0)
        frame += lengths[-1] + gap_s * FRAME_RATE
    return np.array(starts), np.array(lengths)


def _targets(
    picks: np.ndarray,
    timing: tuple[np.ndarray, np.ndarray],
    voice: Curve,
    random: np.random.Generator,
) -> np.ndarray:
    """`[K, 13]`: curl, thumb, turn, place and fan, for the left hand."""
    rows = []
    for pick, start, length in zip(picks, *timing, strict=True):
        ahead = min(len(voice) - 1, int(start) + int(length))
        resting = voice[ahead] < 0.3
        gesture = _REST if resting else GESTURES[int(pick)]
        loose = 0.03 if resting else 0.12
        curl = np.array(gesture.curl) + random.normal(0, loose, 4)
        place = np.array(
            [random.normal(0.42, 0.05), random.normal(3.02, 0.06), 0.7]
            if resting
            else [random.uniform(0.35, 1.15), random.uniform(2.45, 3.0), random.uniform(0.6, 1.0)]
        )
        turn = np.array(gesture.turn) + random.normal(0, loose, 3)
        rows.append(np.concatenate([curl, gesture.thumb, turn, place, [gesture.fan]]))
    return np.array(rows)


def _tremble(num_frames: int, beats: Curve, random: np.random.Generator) -> np.ndarray:
    """Beats of speech push the hand down; it never is quite still."""
    wander = np.stack([drift(num_frames, 0.6, random) for _ in range(3)], axis=1) * 0.018
    wander[:, 1] += 0.10 * smooth(beats, 3.0)
    return wander


def _shape(curve: np.ndarray, side: float, size: float) -> HandShape:
    values = torch.from_numpy(curve).float()
    joints = torch.from_numpy(_JOINTS).float()
    wrist = values[:, 9:12] * torch.tensor([side, 1.0, 1.0])
    return HandShape(
        curl=values[:, :4, None].clamp(0.0, 1.6) * joints,
        fan=values[:, 12],
        thumb=values[:, 4:6].clamp(0, 1),
        turn=values[:, 6:9],
        wrist=wrist,
        size=torch.full((len(values),), size),
    )
