"""The bones of a hand: joint angles to MediaPipe's 21 keypoints."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mirrorme_training.batched import Batched

HAND_LENGTH = 1.05
"""Wrist to the middle finger's tip, world units, for a hand of size 1."""

# The left hand, palm towards the viewer, fingers up, hand length 1.
_KNUCKLES = ((-0.135, -0.455), (-0.035, -0.48), (0.065, -0.455), (0.15, -0.40))
_BONES = ((0.225, 0.135, 0.11), (0.245, 0.155, 0.115), (0.23, 0.145, 0.11), (0.175, 0.105, 0.095))
_THUMB_BASE = (-0.13, -0.11, 0.03)
_THUMB_BONES = (0.19, 0.145, 0.125)


@dataclass(frozen=True)
class HandShape(Batched):
    """Joint angles in radians, and where the hand is."""

    curl: Tensor
    """[B, 4, 3] bend of index, middle, ring and little finger at their three joints."""
    fan: Tensor
    """[B] fan between the fingers."""
    thumb: Tensor
    """[B, 2] away from the palm's side (0 folded in, 1 stretched out), bend."""
    turn: Tensor
    """[B, 3] turn about x, y, z, in this order; 0: palm to the viewer, fingers up."""
    wrist: Tensor
    """[B, 3] world units"""
    size: Tensor
    """[B] around 1"""


def hand_keypoints(shape: HandShape, side: float) -> Tensor:
    """`[B, 21, 3]` world units, in MediaPipe's order.

    Args:
        side: +1 for the person's left hand, -1 for the right one, its mirror image.
    """
    wrist = torch.zeros_like(shape.wrist)
    points = [wrist, *_thumb(shape)]
    for finger in range(4):
        points.extend(_finger(shape, finger))
    hand = torch.stack(points, dim=1) * (HAND_LENGTH * shape.size[:, None, None])
    turned = torch.einsum("bij,bkj->bki", _turn(shape.turn), hand)
    turned = turned * torch.tensor([side, 1.0, 1.0], device=hand.device)
    return turned + shape.wrist[:, None]


def _finger(shape: HandShape, finger: int) -> list[Tensor]:
    fan = shape.fan * (finger - 1.4)
    x, y = _KNUCKLES[finger]
    point = torch.zeros_like(shape.wrist)
    point[:, 0], point[:, 1] = x, y
    points, bend = [point], torch.zeros_like(fan)
    for bone, length in enumerate(_BONES[finger]):
        bend = bend + shape.curl[:, finger, bone]
        flat = torch.cos(bend)
        step = torch.stack([torch.sin(fan) * flat, -torch.cos(fan) * flat, torch.sin(bend)], dim=1)
        point = point + step * length
        points.append(point)
    return points


def _thumb(shape: HandShape) -> list[Tensor]:
    out, bend = shape.thumb[:, 0], shape.thumb[:, 1]
    point = torch.zeros_like(shape.wrist) + torch.tensor(_THUMB_BASE, device=out.device)
    points = [point]
    for bone, length in enumerate(_THUMB_BONES):
        angle = 0.25 + 0.75 * out - bend * 0.55 * bone
        depth = 0.35 * (1 - out) + 0.35 * bend * bone
        step = torch.stack([-torch.sin(angle), -torch.cos(angle), depth], dim=1)
        point = point + step / step.norm(dim=1, keepdim=True) * length
        points.append(point)
    return points


def _turn(angles: Tensor) -> Tensor:
    rotation = torch.eye(3, device=angles.device).expand(len(angles), 3, 3)
    for axis in range(3):
        first, second = [i for i in range(3) if i != axis]
        cos, sin = angles[:, axis].cos(), angles[:, axis].sin()
        matrix = torch.eye(3, device=angles.device).repeat(len(angles), 1, 1)
        sign = -1.0 if axis == 1 else 1.0
        matrix[:, first, first], matrix[:, second, second] = cos, cos
        matrix[:, first, second], matrix[:, second, first] = -sin * sign, sin * sign
        rotation = matrix @ rotation
    return rotation
