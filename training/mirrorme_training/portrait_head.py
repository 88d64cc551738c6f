"""Where the head is: its rotation, and the map between pixels and the surface of the face.

The face is painted on an ellipsoid, so that features shift and foreshorten as they do in 3-D.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mirrorme_training.portrait_canvas import Box, Canvas, Grid
from mirrorme_training.portrait_identity import Identity
from mirrorme_training.portrait_pose import HEAD_CONTROLS, Pose

RADII = (0.84, 1.24, 0.64)
"""Of the ellipsoid that features are painted on, world units."""
PIVOT = (0.0, 0.72, -0.3)
"""What the head turns about, at the top of the neck."""


@dataclass(frozen=True)
class FaceField:
    """Head coordinates of the pixels of a grid, all `[B, h, w]`."""

    grid: Grid
    x: Tensor
    """Across the face, as seen from the front."""
    y: Tensor
    """Down the face, as seen from the front."""
    flat_x: Tensor
    """Pixel position about the head's middle, roll taken out."""
    flat_y: Tensor
    light: Tensor
    """Cosine between the surface and the key light."""
    rim: Tensor
    """Cosine between the surface and the viewer."""

    def crop(self, box: Box) -> FaceField:
        """The field on a part of its box."""
        outer = self.grid.box
        box = Box(
            max(box.top, outer.top),
            max(min(box.bottom, outer.bottom), max(box.top, outer.top)),
            max(box.left, outer.left),
            max(min(box.right, outer.right), max(box.left, outer.left)),
        )
        rows = slice(box.top - outer.top, box.bottom - outer.top)
        columns = slice(box.left - outer.left, box.right - outer.left)

        def part(field: Tensor) -> Tensor:
            return field[:, rows, columns]

        grid = Grid(box, part(self.grid.x), part(self.grid.y), self.grid.pixel)
        fields = (self.x, self.y, self.flat_x, self.flat_y, self.light, self.rim)
        return FaceField(grid, *map(part, fields))


class HeadSpace:
    """The head's place and rotation in every frame of one render call."""

    def __init__(self, who: Identity, pose: Pose) -> None:
        self.yaw, self.pitch, self.roll = (torch.deg2rad(pose.control(n)) for n in HEAD_CONTROLS)
        self.rotation = _rotation(self.yaw, self.pitch, self.roll)
        pivot = torch.tensor(PIVOT, device=pose.device)
        lift = -0.012 * pose.breath - 0.25 * pose.shoulders.mean(1)
        shift = torch.stack([pose.sway, lift, torch.zeros_like(lift)], dim=1)
        self._origin = pivot - (self.rotation @ pivot) + shift
        light = torch.stack([who.light.x, who.light.y, torch.full_like(who.light.x, 0.75)], dim=1)
        light = light / light.norm(dim=1, keepdim=True)
        self._light = torch.einsum("bij,bi->bj", self.rotation, light.expand(len(pose), 3))

    def project(self, points: Tensor) -> Tensor:
        """Head points `[B or 1, K, 3]` to world points `[B, K, 2]`."""
        world = torch.einsum("bij,bkj->bki", self.rotation, points.expand(len(self.yaw), -1, -1))
        return (world + self._origin[:, None])[..., :2]

    def surface(self, x: Tensor, y: Tensor) -> Tensor:
        """Points of the face `[B, K, 3]` at face coordinates `[B, K]`."""
        inside = (1 - (x / RADII[0]) ** 2 - (y / RADII[1]) ** 2).clamp_min(0)
        return torch.stack(torch.broadcast_tensors(x, y, RADII[2] * inside.sqrt()), dim=-1)

    def protrusion(self, height: float) -> tuple[Tensor, Tensor]:
        """How far something raised above the face seems shifted, as face coordinates `[B,1,1]`."""
        x = height * torch.tan(self.yaw)
        y = -height * torch.tan(self.pitch) * torch.cos(self.yaw)
        return x[:, None, None], y[:, None, None]

    def field(self, grid: Grid) -> FaceField:
        """Face coordinates of every pixel of a grid."""
        x, y = (grid.x - self._origin[:, 0, None, None], grid.y - self._origin[:, 1, None, None])
        rows = self.rotation[:, :, :, None, None]
        weights = torch.tensor([1 / r**2 for r in RADII], device=x.device)
        depth_axis = self.rotation[:, 2]
        a = (depth_axis**2 * weights).sum(1)[:, None, None]
        flat = [rows[:, 0, i] * x + rows[:, 1, i] * y for i in range(3)]
        b = sum(flat[i] * (rows[:, 2, i] * weights[i]) for i in range(3))
        c = sum(flat[i] ** 2 * weights[i] for i in range(3)) - 1
        z = (torch.sqrt((b * b - a * c).clamp_min(0)) - b) / a
        point = [flat[i] + rows[:, 2, i] * z for i in range(3)]
        normal = [point[i] * weights[i] for i in range(3)]
        length = torch.stack(normal).square().sum(0).add(1e-9).sqrt()
        light = sum(normal[i] * self._light[:, i, None, None] for i in range(3)) / length
        rim = sum(normal[i] * rows[:, 2, i] for i in range(3)) / length
        cos, sin = (f(self.roll)[:, None, None] for f in (torch.cos, torch.sin))
        flat_x, flat_y = cos * x + sin * y, cos * y - sin * x
        return FaceField(grid, point[0], point[1], flat_x, flat_y, light, rim)


def head_grid(canvas: Canvas, head: HeadSpace, margin: float) -> Grid:
    """The grid that holds the head with a margin for hair."""
    corners = [[-0.85, 0, 0], [0.85, 0, 0], [0, -1.05, 0], [0, 1.25, 0.4]]
    points = torch.tensor([corners], device=canvas.rgb.device)
    return canvas.around(head.project(points), margin)


def _rotation(yaw: Tensor, pitch: Tensor, roll: Tensor) -> Tensor:
    """`[B, 3, 3]`: pitch first, then yaw, then roll."""
    zero, one = torch.zeros_like(yaw), torch.ones_like(yaw)

    def matrix(*rows: list[Tensor]) -> Tensor:
        return torch.stack([torch.stack(row, dim=1) for row in rows], dim=1)

    cy, sy, cp, sp = yaw.cos(), yaw.sin(), pitch.cos(), pitch.sin()
    cr, sr = roll.cos(), roll.sin()
    about_x = matrix([one, zero, zero], [zero, cp, -sp], [zero, sp, cp])
    about_y = matrix([cy, zero, sy], [zero, one, zero], [-sy, zero, cy])
    about_z = matrix([cr, -sr, zero], [sr, cr, zero], [zero, zero, one])
    return about_z @ about_y @ about_x
