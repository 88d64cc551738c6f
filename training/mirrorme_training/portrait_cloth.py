"""What trunk and arms share: coordinates that breathe, and the cloth's colour and folds."""

from __future__ import annotations

import torch
from torch import Tensor

from mirrorme_training.portrait_canvas import Grid
from mirrorme_training.portrait_scene import Scene
from mirrorme_training.portrait_shapes import ripple, smoothstep

NECK_TOP = 1.12
"""Where necklines start, world units."""


def body_coordinates(scene: Scene, grid: Grid) -> tuple[Tensor, Tensor]:
    """Coordinates that sway and breathe with the trunk, `[B, h, w]`."""
    pose = scene.pose
    lean = 1 - 0.22 * (grid.y - NECK_TOP).clamp_min(0)
    x = grid.x - pose.sway[:, None, None] * lean
    left, right = (pose.shoulders[:, i, None, None] for i in (0, 1))
    raised = torch.where(x > 0, left, right) * smoothstep(0.1, 1.0, x.abs())
    breath = pose.breath[:, None, None]
    y = grid.y + (raised + 0.018 * breath) * smoothstep(3.0, 1.9, grid.y)
    return x * (1 - 0.008 * breath), y


def body_tone(scene: Scene, x: Tensor, y: Tensor) -> Tensor:
    clothes, light = scene.who.clothes, scene.who.light
    folds = ripple(x * 0.8, y * 0.55, clothes.phase, 3.6)
    side = (x / clothes.shoulder_width) * light.x
    tone = 0.93 + 0.17 * side * light.contrast + 0.055 * folds
    arm_gap = smoothstep(0.10, 0.0, (x.abs() - clothes.shoulder_width + 0.42).abs())
    tone = tone - 0.13 * arm_gap * smoothstep(2.1, 2.6, y)
    return tone - 0.16 * smoothstep(2.4, 4.2, y)


def cloth_color(scene: Scene, x: Tensor, y: Tensor) -> Tensor:
    clothes = scene.who.clothes
    frequency = clothes.pattern_frequency
    wave = torch.sin((y + 0.04 * torch.sin(3 * x)) * frequency * 2)
    stripe = smoothstep(0.25, 0.45, wave) * clothes.stripes
    row = torch.floor(y * frequency)
    gx = (x * frequency + 0.5 * (row % 2)) % 1 - 0.5
    gy = (y * frequency) % 1 - 0.5
    dot = smoothstep(0.22, 0.14, torch.sqrt(gx * gx + gy * gy + 1e-6)) * clothes.dots
    share = (stripe + dot).clamp(0, 1)[:, None] * 0.8
    return clothes.main + (clothes.second - clothes.main) * share
