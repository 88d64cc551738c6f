"""Hands, drawn from their keypoints finger by finger, the nearest on top."""

from __future__ import annotations

import itertools

import torch
from mirrorme_model.hand_cues import FINGERS
from torch import Tensor

from mirrorme_training.portrait_canvas import Box, Grid
from mirrorme_training.portrait_scene import Scene
from mirrorme_training.portrait_shapes import coverage, smoothstep

PALM = ((0, 1), (0, 5), (0, 9), (0, 13), (0, 17), (5, 9), (9, 13), (13, 17), (1, 5), (1, 2))
FINGER_RADII = (
    (0.105, 0.088, 0.078, 0.062),
    *[(0.078, 0.069, 0.062, 0.052)] * 3,
    (0.068, 0.058, 0.052, 0.044),
)
PALM_RADIUS = 0.092


def paint_hand(scene: Scene, index: int) -> tuple[Box, Tensor] | None:
    """Paints the left (0) or right (1) hand.

    Returns:
        The box and the coverage `[B, h, w]` of the hand; None where no frame shows it.
    """
    shown = scene.pose.hand_shown[:, index]
    if float(shown.max()) == 0.0:
        return None
    points = scene.pose.hands[:, index]
    hidden = points.clone()
    hidden[..., 1] = torch.where(shown[:, None] > 0, points[..., 1], 50.0)
    visible = points[shown > 0]
    if len(scene.who.framing) == 1:
        grid = scene.canvas.around(visible[..., :2], 0.15)
    else:
        filled = torch.where(shown[:, None, None] > 0, points, visible[:1])
        grid = scene.canvas.around(filled[..., :2], 0.15)
    if grid.box.empty:
        return None
    return _paint(scene, grid, hidden, shown)


def _segments(
    grid: Grid, points: Tensor, pairs: list[tuple[int, int]], radii: list[tuple[float, float]]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Distance, depth, side-to-side position and position along, `[B, S, h, w]`."""
    device = points.device
    start = points[:, [a for a, _ in pairs], :, None, None]
    end = points[:, [b for _, b in pairs], :, None, None]
    r0 = torch.tensor([a for a, _ in radii], device=device)[None, :, None, None]
    r1 = torch.tensor([b for _, b in radii], device=device)[None, :, None, None]
    x, y = grid.x[:, None] - start[:, :, 0], grid.y[:, None] - start[:, :, 1]
    step = end - start
    dx, dy, dz = step.unbind(2)
    square = dx * dx + dy * dy + 1e-6
    along = ((x * dx + y * dy) / square).clamp(0, 1)
    ox, oy = x - along * dx, y - along * dy
    length = torch.sqrt(square)
    across = (ox * -dy + oy * dx) / length
    radius = r0 + (r1 - r0) * along
    distance = torch.sqrt(ox * ox + oy * oy + 1e-9) - radius
    return distance, start[:, :, 2] + along * dz, across / radius, along


def _paint(scene: Scene, grid: Grid, points: Tensor, shown: Tensor) -> tuple[Box, Tensor]:
    who, canvas = scene.who, scene.canvas
    palm_d, palm_z, _, _ = _segments(
        grid, points, list(PALM), [(PALM_RADIUS, PALM_RADIUS)] * len(PALM)
    )
    sharp = 26.0
    palm = -torch.logsumexp(-palm_d * sharp, dim=1) / sharp + 0.035
    weights = torch.softmax(-palm_d * sharp, dim=1)
    depths, distances, shades, edges = [(weights * palm_z).sum(1)], [palm], [], []
    light = who.light
    shades.append(torch.zeros_like(palm))
    edges.append(torch.ones_like(palm))
    for chain, radii in zip(FINGERS, FINGER_RADII, strict=True):
        pairs = list(itertools.pairwise(chain))
        d, z, across, along = _segments(grid, points, pairs, list(itertools.pairwise(radii)))
        distance, nearest = d.min(dim=1)
        pick = nearest[:, None]
        distances.append(distance)
        depths.append(z.gather(1, pick)[:, 0] + 0.012)
        shades.append(across.gather(1, pick)[:, 0].clamp(-1, 1))
        first = (nearest == 0).float()
        base = smoothstep(0.05, 0.75, along.gather(1, pick)[:, 0])
        edges.append(1 - first * (1 - base))
    d = torch.stack(distances, dim=1)
    z = torch.stack(depths, dim=1)
    half = grid.pixel[:, None] * 0.5
    front = torch.where(d < half, z, torch.full_like(z, -1e3) - d).argmax(dim=1, keepdim=True)
    chosen = d.gather(1, front)[:, 0]
    shade = torch.stack(shades, dim=1).gather(1, front)[:, 0]
    edge_on = torch.stack(edges, dim=1).gather(1, front)[:, 0]
    cover = coverage(d.amin(dim=1), grid.pixel) * shown[:, None, None]
    line = smoothstep(-0.035, -0.002, chosen) * edge_on
    tone = 0.72 + 0.22 * shade * light.x.sign() * light.contrast
    color = scene.lit(who.face.skin, tone.clamp(0, 1))
    rosy = smoothstep(0.0, 1.0, (front[:, 0] > 0).float()) * 0.10
    color = color + (who.face.blush - color) * rosy[:, None]
    color = color + (who.face.shadow * 0.92 - color) * (0.62 * line)[:, None]
    canvas.paint(grid.box, color, cover)
    return grid.box, cover
