"""Signed distances and smooth steps that the layers are built of.

Distances are negative inside, in world units; fields are `[B, h, w]` and parameters broadcast to
them. The formulas are the well-known ones for 2-D primitives.
"""

from __future__ import annotations

import torch
from torch import Tensor


def circle(x: Tensor, y: Tensor, radius: Tensor | float) -> Tensor:
    """Distance to a circle around the origin."""
    return torch.sqrt(x * x + y * y + 1e-9) - radius


def ellipse(x: Tensor, y: Tensor, radius_x: Tensor | float, radius_y: Tensor | float) -> Tensor:
    """Distance to an ellipse around the origin; exact on its edge, close to it nearby."""
    u, v = x / radius_x, y / radius_y
    near = torch.sqrt(u * u + v * v + 1e-9)
    slope = torch.sqrt((u / radius_x) ** 2 + (v / radius_y) ** 2 + 1e-9)
    return near * (near - 1.0) / slope


def rounded_box(
    x: Tensor, y: Tensor, half_x: Tensor | float, half_y: Tensor | float, radius: Tensor | float
) -> Tensor:
    """Distance to an upright box around the origin whose corners are rounded."""
    dx, dy = x.abs() - (half_x - radius), y.abs() - (half_y - radius)
    outside = torch.sqrt(dx.clamp_min(0) ** 2 + dy.clamp_min(0) ** 2 + 1e-9)
    return outside + torch.maximum(dx, dy).clamp_max(0) - radius


def capsule(
    x: Tensor,
    y: Tensor,
    start: tuple[Tensor | float, Tensor | float],
    end: tuple[Tensor | float, Tensor | float],
    start_radius: Tensor | float,
    end_radius: Tensor | float,
) -> Tensor:
    """Distance to a line with round ends whose radius goes from one value to another."""
    px, py = x - start[0], y - start[1]
    ax, ay = _minus(end[0], start[0]), _minus(end[1], start[1])
    along = ((px * ax + py * ay) / (ax * ax + ay * ay + 1e-9)).clamp(0, 1)
    radius = start_radius + (end_radius - start_radius) * along
    return torch.sqrt((px - along * ax) ** 2 + (py - along * ay) ** 2 + 1e-9) - radius


def _minus(a: Tensor | float, b: Tensor | float) -> Tensor:
    return torch.as_tensor(a - b)


def union(a: Tensor, b: Tensor, softness: float = 0.0) -> Tensor:
    """Both shapes; `softness` is the width over which the seam is rounded."""
    if softness == 0.0:
        return torch.minimum(a, b)
    blend = (softness - (a - b).abs()).clamp_min(0) / softness
    return torch.minimum(a, b) - blend * blend * (softness / 4)


def cut(a: Tensor, b: Tensor) -> Tensor:
    """The first shape without the second."""
    return torch.maximum(a, -b)


def smoothstep(low: Tensor | float, high: Tensor | float, x: Tensor) -> Tensor:
    """0 below `low`, 1 above `high`, smooth between. Works downwards too, where low > high."""
    t = ((x - low) / (high - low)).clamp(0, 1)
    return t * t * (3 - 2 * t)


def bump(x: Tensor, y: Tensor, radius_x: Tensor | float, radius_y: Tensor | float) -> Tensor:
    """A soft spot: 1 at the origin, falling off as a Gaussian."""
    return torch.exp(-((x / radius_x) ** 2) - (y / radius_y) ** 2)


def coverage(distance: Tensor, pixel: Tensor | float) -> Tensor:
    """How much of each pixel a shape covers, 0 to 1. `pixel` is a pixel's size in world units."""
    return (0.5 - distance / pixel).clamp(0, 1)


def ripple(x: Tensor, y: Tensor, phase: Tensor, frequency: Tensor | float) -> Tensor:
    """A smooth random-looking field in about -1 to 1.

    Args:
        phase: `[B, 6, 1, 1]`, 0 to 2 pi; what makes one texture differ from another.
        frequency: rough number of bumps a world unit.
    """
    total = torch.zeros_like(x + y)
    for i, (fx, fy) in enumerate(((1.0, 0.37), (-0.71, 0.9), (0.23, -1.31))):
        warp = torch.sin((x * fy + y * fx) * frequency * 0.6 + phase[:, i + 3]) * 0.9
        total = total + torch.sin((x * fx + y * fy) * frequency + phase[:, i] + warp)
    return total / 3
