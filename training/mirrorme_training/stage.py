"""What the trainer asks of a stage."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from typing import Protocol

import numpy as np
import torch
from mirrorme_model.avatar import AvatarModel
from numpy.typing import NDArray
from torch import Tensor, nn

Picture = NDArray[np.uint8]
"""`[H, W, 3]`, R first."""
_STRIP_HEIGHT_PX = 64
_STRIP_SCALE_PX = 6


class Stage(Protocol):
    """Owns the model, its averaged copy, and the data; knows the loss, not how it is minimised."""

    model: AvatarModel
    """Trained in place."""
    average: AvatarModel
    """Of the same config; the trainer moves its weights, strips and checkpoints use it."""

    @property
    def trained(self) -> nn.ModuleDict:
        """What the optimiser moves. Parts under the name `model.*` have their twins in `average`;
        others are not saved for use."""
        ...

    @property
    def clips_per_step(self) -> int:
        """Of one part of the batch, for the throughput that is printed."""
        ...

    def advance(self, step: int) -> None:
        """Brings the data to a step."""
        ...

    def show(self, part: int) -> None:
        """Turns to the clips of one part of the batch, of those that are this process's own."""
        ...

    def kind(self, step: int) -> int | None:
        """Losses of steps of one kind run the same operations on tensors of the same shapes at the
        same places, and never wait for the device. None: this one does not."""
        ...

    def loss(self, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of the part shown, and numbers to log, without gradients."""
        ...

    def held_out(self) -> dict[str, Tensor]:
        """Numbers to log of what the average does with clips that are not trained on, if any are
        kept for it."""
        ...

    def strip(self) -> Picture:
        """Truth and what the average makes of it, to look at."""
        ...

    def finish(self) -> None:
        """Before `average` is saved: computes what is not trained by gradients."""
        ...

    def compile(self) -> None:
        """Lets torch compile what the loss runs."""
        ...


def averaged_copy(model: AvatarModel, common: Iterable[nn.Parameter] = ()) -> AvatarModel:
    """A copy that gradients do not touch; `common` weights, which stay as they are, both have."""
    kept: dict[int, object] = {id(parameter): parameter for parameter in common}
    return copy.deepcopy(model, kept).eval().requires_grad_(False)


def tile(rows: list[Tensor]) -> Picture:
    """Rows of pictures `[n, H, W, 3]` uint8, one below the other."""
    lines = [np.concatenate(list(row.cpu().numpy()), axis=1) for row in rows]
    return np.concatenate(lines, axis=0)


def spread_indices(count: int, shown: int) -> list[int]:
    """At most `shown` indices evenly over `count`."""
    step = max(1, math.ceil(count / shown))
    return list(range(0, count, step))


def shows_pictures(step: int, every_steps: int) -> bool:
    """Whether a step of a stage for clips is one for single pictures; `every_steps` 0: none is."""
    return every_steps > 0 and step % every_steps == every_steps - 1


def mean_correlation(a: Tensor, b: Tensor) -> Tensor:
    """Mean over clips of Pearson's r of `[B, T]`; a clip without movement counts as 0."""
    a, b = a - a.mean(dim=1, keepdim=True), b - b.mean(dim=1, keepdim=True)
    scale = (a.square().sum(dim=1) * b.square().sum(dim=1)).sqrt()
    return ((a * b).sum(dim=1) / scale.clamp(min=1e-6)).mean()


def curves(truth: Tensor, made: Tensor) -> Picture:
    """Curves `[n, T]` of 0 to 1 over time, one clip below the other: truth grey, made black."""
    pairs = zip(truth.cpu().numpy(), made.cpu().numpy(), strict=True)
    return np.concatenate([_curve_pair(t, m) for t, m in pairs])


def _curve_pair(truth: NDArray[np.float32], made: NDArray[np.float32]) -> Picture:
    picture = np.full((_STRIP_HEIGHT_PX, len(truth) * _STRIP_SCALE_PX, 3), 255, np.uint8)
    for curve, shade in ((truth, 190), (made, 0)):
        heights = (1 - np.repeat(curve, _STRIP_SCALE_PX)).clip(0, 1) * (_STRIP_HEIGHT_PX - 2)
        rows = heights.round().astype(int)
        picture[rows, np.arange(len(rows))] = shade
        picture[rows + 1, np.arange(len(rows))] = shade
    return picture
