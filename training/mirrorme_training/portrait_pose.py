"""How the person moves: controls by name, mouth details, shoulders and hands."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from mirrorme_model.presets import BLENDSHAPES
from mirrorme_model.vae_config import NUM_KEYPOINTS
from torch import Tensor

from mirrorme_training.batched import Batched

HEAD_CONTROLS = ("head_yaw", "head_pitch", "head_roll")
"""Degrees, -30 to 30. Positive: towards the picture's right (yaw), up (pitch), clockwise in the
picture (roll)."""
GAZE_CONTROLS = ("gaze_x", "gaze_y")
"""-1 to 1. Positive: towards the picture's right, up."""
BREATH = "breath"
"""-1 (out) to 1 (in)."""
CONTROLS = (*BLENDSHAPES, *HEAD_CONTROLS, *GAZE_CONTROLS, BREATH)
"""The order of `Pose.controls`, that of the model's presets. Blendshapes go from 0 to 1."""
SPEECH_CONTROLS = (
    "jawOpen",
    "mouthClose",
    "mouthFunnel",
    "mouthPucker",
    "mouthStretchLeft",
    "mouthStretchRight",
)
"""What speech moves; the others move for other reasons."""
CONTROL_INDEX = {name: i for i, name in enumerate(CONTROLS)}
DETAILS = ("mouthRollLower", "mouthUpperUp", "mouthLowerDown", "tongue")
"""The order of `Pose.details`: what speech does beyond the controls, 0 to 1 each. `tongue` is 1 at
the upper teeth."""
DETAIL_INDEX = {name: i for i, name in enumerate(DETAILS)}


@dataclass(frozen=True)
class Pose(Batched):
    """One frame each."""

    controls: Tensor
    """[B, len(CONTROLS)]"""
    details: Tensor
    """[B, len(DETAILS)]"""
    shoulders: Tensor
    """[B, 2] left and right shoulder raised, world units."""
    sway: Tensor
    """[B] sideways shift of the trunk, world units; the head goes along."""
    hands: Tensor
    """[B, 2, 21, 3] left and right hand, MediaPipe's keypoints, world units."""
    hand_shown: Tensor
    """[B, 2] 1.0: the hand is drawn."""

    @property
    def breath(self) -> Tensor:
        """[B] -1 (out) to 1 (in)."""
        return self.control(BREATH)

    def control(self, name: str) -> Tensor:
        """`[B]` of one control or detail."""
        if name in DETAIL_INDEX:
            return self.details[:, DETAIL_INDEX[name]]
        return self.controls[:, CONTROL_INDEX[name]]


def rest_pose(num_frames: int) -> Pose:
    """Looking at the viewer, mouth closed, hands out of the picture."""
    hands = torch.zeros(num_frames, 2, NUM_KEYPOINTS, 3)
    hands[..., 1] = 8.0
    return Pose(
        controls=torch.zeros(num_frames, len(CONTROLS)),
        details=torch.zeros(num_frames, len(DETAILS)),
        shoulders=torch.zeros(num_frames, 2),
        sway=torch.zeros(num_frames),
        hands=hands,
        hand_shown=torch.zeros(num_frames, 2),
    )


def with_controls(pose: Pose, **values: float | Tensor) -> Pose:
    """The pose with some controls or details, by name, set for all frames or frame by frame."""
    controls, details = pose.controls.clone(), pose.details.clone()
    for name, value in values.items():
        if name in DETAIL_INDEX:
            details[:, DETAIL_INDEX[name]] = value
        else:
            controls[:, CONTROL_INDEX[name]] = value
    return replace(pose, controls=controls, details=details)
