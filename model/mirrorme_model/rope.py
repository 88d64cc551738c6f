"""Rotary position embedding over time, height and width, as LTX-Video's (arXiv 2501.00103)."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import NamedTuple

import torch
from torch import Tensor, nn

_MAX_TIME_S = 20.0
_MAX_SIDE_PX = 2048.0
_THETA = 10000.0


class Rope(NamedTuple):
    """Rotation of tokens at given positions."""

    cos: Tensor
    """[T, D] or [B, T, D], float32."""
    sin: Tensor


def grid_coordinates(
    times_s: list[Fraction], latent_height: int, latent_width: int, pixels_per_token: int
) -> Tensor:
    """Coordinates of the tokens of latent frames, frame by frame, row by row.

    Returns:
        [F·h·w, 3] float32: seconds, y in pixels, x in pixels.
    """
    time = torch.tensor([float(t) for t in times_s], dtype=torch.float32, device="cpu")
    y = torch.arange(latent_height, dtype=torch.float32, device="cpu") * pixels_per_token
    x = torch.arange(latent_width, dtype=torch.float32, device="cpu") * pixels_per_token
    return torch.stack(torch.meshgrid(time, y, x, indexing="ij"), dim=-1).reshape(-1, 3)


def rope(coordinates: Tensor, width: int) -> Rope:
    """Rotations for tokens at `coordinates`.

    Args:
        coordinates: [..., T, 3] float32, as `grid_coordinates` gives them.
        width: D, of all heads together.

    Returns:
        cos and sin [..., T, D]. Channels 2i and 2i + 1 turn together. Pairs run over frequencies,
        and within one over time, y, x; the remainder of D by 6 is not turned, and comes first.
    """
    scale = coordinates.new_tensor([_MAX_TIME_S, _MAX_SIDE_PX, _MAX_SIDE_PX])
    exponents = torch.linspace(0, 1, width // 6, dtype=torch.float32, device=coordinates.device)
    frequencies = _THETA**exponents * math.pi / 2
    # Per token, frequency and axis.
    angles = frequencies[:, None] * (coordinates / scale * 2 - 1)[..., None, :]
    angles = angles.flatten(-2).repeat_interleave(2, dim=-1)
    angles = nn.functional.pad(angles, (width % 6, 0))
    return Rope(angles.cos(), angles.sin())


def rotate(x: Tensor, rope: Rope) -> Tensor:
    """Turns [B, T, D] in float32; the result has the type of `x`."""
    pairs = x.float().unflatten(-1, (-1, 2))
    turned = torch.stack((-pairs[..., 1], pairs[..., 0]), dim=-1).flatten(-2)
    return (x.float() * rope.cos + turned * rope.sin).to(x.dtype)
