"""A clip bent like rubber, the same way in every frame: another face and trunk that move alike."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

_STRETCH = 0.06
_SHEAR = 0.05
_ROLL = 0.03
"""Deviations of what is done to the whole picture: of logarithm, share, and radians."""
_KNOTS = 6
_KNOT_SHIFT = 0.012
"""Deviation of each knot's shift, of the picture's side; between knots it is smooth."""
_INVERSIONS = 3


class Bend:
    """Shows at each place what was beside it. Sides are 1 here, x before y, 0 to 1."""

    def __init__(self, still: Tensor, generator: torch.Generator) -> None:
        """
        Args:
            still: `[2]` the place that stays where it is.
            generator: on the CPU.
        """
        device = still.device
        stretch = (_STRETCH * torch.randn(2, generator=generator)).exp()
        roll = float(_ROLL * torch.randn(1, generator=generator))
        turn = torch.tensor([[math.cos(roll), -math.sin(roll)], [math.sin(roll), math.cos(roll)]])
        shear = torch.eye(2)
        shear[0, 1] = _SHEAR * torch.randn(1, generator=generator)
        self._whole = (turn @ shear @ torch.diag(stretch)).to(device)
        knots = _KNOT_SHIFT * torch.randn(1, 2, _KNOTS, _KNOTS, generator=generator)
        self._knots = functional.interpolate(
            knots, scale_factor=8, mode="bicubic", align_corners=False
        ).to(device)
        self._still = still
        # What the knots do to the still place is undone everywhere.
        self._undone = torch.zeros_like(still)
        self._undone = self._shift(still[None])[0]

    def pictures(self, pictures: Tensor) -> Tensor:
        """Bends `[T, H, W, C]` uint8; what is beyond the edges is as it is at them."""
        height, width = pictures.shape[1:3]
        device = pictures.device
        rows = (torch.arange(height, device=device) + 0.5) / height
        columns = (torch.arange(width, device=device) + 0.5) / width
        places = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1)
        shown = places + self._shift(places.flatten(0, 1)).view_as(places)
        made = functional.grid_sample(
            pictures.movedim(-1, 1).float(),
            (2 * shown - 1).expand(len(pictures), -1, -1, -1),
            padding_mode="border",
            align_corners=False,
        )
        return made.round().to(torch.uint8).movedim(1, -1)

    def points(self, points: Tensor) -> Tensor:
        """Where what is at `[..., 2]` is afterwards."""
        given = points.reshape(-1, 2)
        found = given
        for _ in range(_INVERSIONS):
            found = given - self._shift(found)
        return found.view_as(points)

    def _shift(self, places: Tensor) -> Tensor:
        """From places `[N, 2]` to what they show."""
        along = (places - self._still) @ (self._whole.T - torch.eye(2, device=places.device))
        at = (2 * places - 1)[None, None]
        knots = functional.grid_sample(self._knots, at, padding_mode="border", align_corners=False)
        return along + knots[0, :, 0].T - self._undone
