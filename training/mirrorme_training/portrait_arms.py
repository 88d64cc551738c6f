"""Arms from the shoulder to the wrist, placed so that they reach the hands."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mirrorme_training.portrait_cloth import body_coordinates, body_tone, cloth_color
from mirrorme_training.portrait_scene import Scene
from mirrorme_training.portrait_shapes import capsule, coverage, ripple, smoothstep

UPPER_ARM = 1.5
"""Seen length of a hanging upper arm, world units. Elbows stay low and beside the body; the forearm
makes up for the rest by pointing at the viewer."""
FOREARM = 1.25
"""Length of a hanging forearm, world units."""


@dataclass(frozen=True)
class Arm:
    """One arm in every frame; points are `[B, 2]` world."""

    side: float
    """+1: the person's left, on the picture's right."""
    shoulder: Tensor
    elbow: Tensor
    wrist: Tensor
    shown: Tensor
    """[B] 1.0: the forearm comes up into the picture."""


def solve_arms(scene: Scene) -> tuple[Arm, Arm]:
    """The person's left and right arm."""
    return _solve(scene, 0, 1.0), _solve(scene, 1, -1.0)


def _solve(scene: Scene, index: int, side: float) -> Arm:
    pose, clothes = scene.pose, scene.who.clothes
    width, top = clothes.shoulder_width[:, 0, 0], clothes.shoulder_y[:, 0, 0]
    x = pose.sway * 0.9 + side * (width - 0.34)
    y = top + 0.48 - pose.shoulders[:, index] - 0.016 * pose.breath
    shoulder = torch.stack(torch.broadcast_tensors(x, y), dim=-1)
    shown = pose.hand_shown[:, index]
    wrist = pose.hands[:, index, 0, :2]
    raised = ((2.9 - wrist[:, 1]) / 1.6).clamp(0, 1) * shown
    across = torch.stack([side * (0.17 + 0.16 * raised), UPPER_ARM - 0.32 * raised], dim=-1)
    elbow = shoulder + across
    below = elbow + torch.tensor([-side * 0.05, FOREARM], device=x.device)
    wrist = torch.where(shown[:, None] > 0, wrist, below)
    return Arm(side, shoulder, elbow, wrist, shown)


def paint_arm(scene: Scene, arm: Arm, *, upper: bool) -> None:
    """The upper arm, or the forearm of hands that are shown."""
    who, canvas = scene.who, scene.canvas
    clothes = who.clothes
    if not upper and float(arm.shown.max()) == 0.0:
        return
    start, end = (arm.shoulder, arm.elbow) if upper else (arm.elbow, arm.wrist)
    points = torch.stack([start, end], dim=1)
    grid = canvas.around(points, 0.45)
    if grid.box.empty:
        return
    a = (start[:, 0, None, None], start[:, 1, None, None])
    b = (end[:, 0, None, None], end[:, 1, None, None])
    first, last = (0.345, 0.27) if upper else (0.25, 0.15)
    flesh = 0.85 if upper else 0.8
    dx, dy = b[0] - a[0], b[1] - a[1]
    length = torch.sqrt(dx * dx + dy * dy + 1e-6)
    along = ((grid.x - a[0]) * dx + (grid.y - a[1]) * dy) / (length * length)
    across = ((grid.x - a[0]) * -dy + (grid.y - a[1]) * dx) / length
    radius = first + (last - first) * along.clamp(0, 1)
    lit = across * -dy / length * who.light.x + across * dx / length * who.light.y
    tone = 0.93 + 0.22 * lit / radius * who.light.contrast
    end_share = 0.62 + 0.6 * clothes.sleeve if upper else -0.5 + 1.36 * clothes.sleeve
    bare = torch.ones_like(along) if upper else torch.ones_like(along) * arm.shown[:, None, None]
    skin_shape = capsule(grid.x, grid.y, a, b, first * flesh, last * flesh * 0.86)
    skin_tone = (0.55 + 0.5 * lit / radius * who.light.contrast).clamp(0, 1)
    edge = smoothstep(-0.08, 0.0, skin_shape) * 0.3
    skin = scene.lit(who.face.skin, skin_tone)
    skin = skin + (who.face.shadow - skin) * edge[:, None]
    canvas.paint(grid.box, skin, coverage(skin_shape, grid.pixel) * bare)
    cuff = (along - end_share) * length
    sleeve = torch.maximum(capsule(grid.x, grid.y, a, b, first, last * 1.08), cuff)
    outline = smoothstep(-0.09, 0.0, sleeve)
    folds = ripple(along * 2.2, across * 2.0, clothes.phase, 5.0)
    color = cloth_color(scene, across, along * length)
    if upper:
        inner = smoothstep(-0.05, 0.2, across * arm.side) * smoothstep(-0.05, 0.55, along)
        outline = outline * torch.maximum(inner, 0.35 * (along > 0.9))
        # The sleeve flows out of the trunk's cloth at the shoulder.
        begin = smoothstep(0.05, 0.6, along)
        x, y = body_coordinates(scene, grid)
        tone = body_tone(scene, x, y) * (1 - begin) + tone * begin
        # Dots that fade into others would look worn: they go on as on the trunk.
        share = (begin * (1 - clothes.dots))[:, None]
        color = cloth_color(scene, x, y) * (1 - share) + color * share
    tone = tone + 0.05 * folds - 0.2 * outline
    canvas.paint(grid.box, color * tone[:, None], coverage(sleeve, grid.pixel) * bare)
