"""The picture being painted, and the pixel grid that layers are evaluated on.

A layer is evaluated on the smallest box of pixels that holds it for the whole batch. What is
painted does not depend on the box, only the time it takes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mirrorme_training.portrait_identity import Framing


@dataclass(frozen=True)
class Box:
    """Rows and columns of pixels, the ends exclusive. Empty boxes are allowed."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def empty(self) -> bool:
        """True: nothing to paint."""
        return self.top >= self.bottom or self.left >= self.right


@dataclass(frozen=True)
class Grid:
    """World coordinates of the pixel centres of a box."""

    box: Box
    x: Tensor
    """[B or 1, h, w]"""
    y: Tensor
    """[B or 1, h, w]"""
    pixel: Tensor
    """[B or 1, 1, 1] size of a pixel in world units."""


class Canvas:
    """Owns the pixels, `[B, 3, H, W]` in 0 to 1, for the time of one render call."""

    def __init__(self, framing: Framing, num_frames: int, size_px: int) -> None:
        device = framing.device
        self.size_px = size_px
        self.num_frames = num_frames
        self.rgb = torch.zeros(num_frames, 3, size_px, size_px, device=device)
        self._pixel = framing.view_height / size_px
        self._left = framing.center_x - framing.view_height / 2
        self._top = framing.center_y - framing.view_height / 2

    def to_pixels(self, points: Tensor) -> Tensor:
        """World points `[B, ..., 2]` in pixels from the top left corner."""
        lead = (-1,) + (1,) * (points.dim() - 2)
        x = (points[..., 0] - self._left.view(lead)) / self._pixel.view(lead)
        y = (points[..., 1] - self._top.view(lead)) / self._pixel.view(lead)
        return torch.stack([x, y], dim=-1)

    def lengths_to_pixels(self, lengths: Tensor) -> Tensor:
        """World lengths `[B]` in pixels."""
        return lengths / self._pixel

    def whole(self) -> Grid:
        """The grid of the whole picture."""
        return self.grid(Box(0, self.size_px, 0, self.size_px))

    def around(self, points: Tensor, margin: float) -> Grid:
        """The grid that holds world points `[B, K, 2]` with a margin in world units."""
        pixels = self.to_pixels(points)
        margins = (margin / self._pixel)[:, None, None]
        low = (pixels - margins).amin(dim=(0, 1)).floor()
        high = (pixels + margins).amax(dim=(0, 1)).ceil()
        low_x, low_y, high_x, high_y = torch.cat([low, high]).clamp(0, self.size_px).int().tolist()
        return self.grid(Box(low_y, high_y, low_x, high_x))

    def grid(self, box: Box) -> Grid:
        """The grid of a box."""
        device = self.rgb.device
        columns = torch.arange(box.left, box.right, device=device) + 0.5
        rows = torch.arange(box.top, box.bottom, device=device) + 0.5
        pixel = self._pixel[:, None, None]
        x = self._left[:, None, None] + columns[None, None, :] * pixel
        y = self._top[:, None, None] + rows[None, :, None] * pixel
        return Grid(box, x.expand(-1, len(rows), -1), y.expand(-1, -1, len(columns)), pixel)

    def paint(self, box: Box, color: Tensor, alpha: Tensor) -> None:
        """Lays a colour `[B, 3, h or 1, w or 1]` over the box with opacity `[B, h, w]`."""
        part = self.rgb[:, :, box.top : box.bottom, box.left : box.right]
        part += (color - part) * alpha[:, None]

    def shade(self, box: Box, factor: Tensor) -> None:
        """Multiplies the box by `[B, 3 or 1, h, w]`."""
        self.rgb[:, :, box.top : box.bottom, box.left : box.right] *= factor
