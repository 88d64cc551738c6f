"""Cuts parts out of frames, upright, and makes features of them that ignore brightness."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

_BLUR_REACH = 4


@dataclass(frozen=True)
class Window:
    """What a crop covers around its middle, and at which resolution."""

    half_width_px: float
    half_height_px: float
    columns: int
    rows: int


def cut(frames: Tensor, middles: Tensor, window: Window, rolls: Tensor | None = None) -> Tensor:
    """Crops of `[T, H, W, 3]` frames, 0 to 1.

    Args:
        middles: `[T, 2]` x and y, pixels.
        rolls: `[T]` radians by which the window is turned clockwise; None: upright.

    Returns:
        `[T, 3, rows, columns]`.
    """
    count, height, width, _ = frames.shape
    y = (((torch.arange(window.rows) + 0.5) / window.rows) * 2 - 1) * window.half_height_px
    x = (((torch.arange(window.columns) + 0.5) / window.columns) * 2 - 1) * window.half_width_px
    angle = torch.zeros(count) if rolls is None else rolls
    cos, sin = torch.cos(angle)[:, None, None], torch.sin(angle)[:, None, None]
    at_x = middles[:, 0, None, None] + cos * x[None, None] - sin * y[None, :, None]
    at_y = middles[:, 1, None, None] + sin * x[None, None] + cos * y[None, :, None]
    grid = torch.stack([at_x / width * 2 - 1, at_y / height * 2 - 1], dim=-1)
    return functional.grid_sample(
        frames.movedim(-1, 1), grid, align_corners=False, padding_mode="border"
    )


def features(crops: Tensor) -> Tensor:
    """`[T, 3, h, w]` to `[T, F]` without each crop's mean colour and contrast."""
    plain = crops - crops.mean((2, 3), keepdim=True)
    return (plain / (plain.std((1, 2, 3), keepdim=True) + 0.02)).flatten(1)


def worn(frames: Tensor, generator: torch.Generator) -> Tensor:
    """The frames as a codec or a model may leave them: each blurred and noisy by chance."""
    return torch.cat([_worn(frame[None], generator) for frame in frames])


def _worn(frame: Tensor, generator: torch.Generator) -> Tensor:
    blur, noise = torch.rand(2, generator=generator).tolist()
    picture = frame.movedim(-1, 0)
    sigma = 1.5 * blur
    if sigma > 0.3:
        taps = torch.exp(-(torch.arange(-_BLUR_REACH, _BLUR_REACH + 1.0) ** 2) / (2 * sigma**2))
        taps = taps / taps.sum()
        padded = functional.pad(picture, (_BLUR_REACH,) * 4, mode="replicate")
        across = functional.conv2d(padded, taps.view(1, 1, 1, -1))
        picture = functional.conv2d(across, taps.view(1, 1, -1, 1))
    picture = picture + 0.015 * noise * torch.randn(picture.shape, generator=generator)
    return picture.clamp(0, 1).movedim(0, -1)
