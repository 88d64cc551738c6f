"""What the layers of one render call share."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from mirrorme_training.portrait_canvas import Canvas
from mirrorme_training.portrait_head import FaceField, HeadSpace
from mirrorme_training.portrait_identity import Identity
from mirrorme_training.portrait_pose import Pose


@dataclass
class Scene:
    """One render call: where to paint, whom, in which pose."""

    canvas: Canvas
    who: Identity
    """Spread: fields are `[B or 1, 1, 1]`."""
    pose: Pose
    head: HeadSpace
    face: FaceField
    """Of a box that holds the head and the hair around it."""

    def control(self, name: str) -> Tensor:
        """One control, `[B, 1, 1]`."""
        return self.pose.control(name)[:, None, None]

    def lit(self, color: Tensor, amount: Tensor) -> Tensor:
        """A colour `[B, 3, 1, 1]` under light of 0 (shadow) to 1 (full), `[B, 3, h, w]`."""
        light = self.who.light
        dark = color * (1 + (light.shadow - 1) * light.contrast[:, None])
        return dark + (color * light.tint - dark) * amount[:, None]
