"""Where lips close for a moment, as for p, b and m: what takes longest to learn of a mouth.

Such frames are few, and a mouth that only comes nearer there costs little of a mean over all.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

CLOSED = 0.05
"""Of the mouth's width: lips that are less open are closed."""
_OPEN = 0.12
_WITHIN_FRAMES = 5
"""Lips are open so soon before, and so soon after."""


def lip_closings(opening: Tensor) -> Tensor:
    """`[N, T]` opening over the mouth's width to bool `[N, T]`."""
    before = nn.functional.pad(opening[:, None], (_WITHIN_FRAMES, 0))[..., :-1]
    after = nn.functional.pad(opening[:, None], (0, _WITHIN_FRAMES))[..., 1:]
    widest = [nn.functional.max_pool1d(side, _WITHIN_FRAMES, 1)[:, 0] for side in (before, after)]
    return (opening < CLOSED) & (torch.minimum(*widest) > _OPEN)
