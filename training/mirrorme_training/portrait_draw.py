"""Seeded draws: one row of random numbers a seed, so that a batch equals its members."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

NUM_NUMBERS = 320


class Draw:
    """Hands out the numbers of each seed in a fixed order; lives for one sampling."""

    def __init__(self, seeds: Sequence[int]) -> None:
        rows = [
            torch.rand(
                NUM_NUMBERS, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
            )
            for seed in seeds
        ]
        self._numbers = torch.stack(rows).float()
        self._used = 0

    def unit(self) -> Tensor:
        """Uniform in 0 to 1, `[B]`."""
        self._used += 1
        return self._numbers[:, self._used - 1]

    def uniform(self, low: float, high: float) -> Tensor:
        """Uniform in `low` to `high`, `[B]`."""
        return low + (high - low) * self.unit()

    def around(self, middle: Tensor | float, spread: float) -> Tensor:
        """Bell-shaped around `middle`, never further than `spread` from it, `[B]`."""
        return middle + spread * (2 * (self.unit() + self.unit() + self.unit()) / 3 - 1)

    def chance(self, probability: Tensor | float) -> Tensor:
        """1.0 with this probability, else 0.0, `[B]`."""
        return (self.unit() < probability).float()

    def index(self, weights: Tensor) -> Tensor:
        """Which of K, by weights `[K]` or `[B, K]`; int64 `[B]`."""
        weights = torch.as_tensor(weights, dtype=torch.float32)
        cumulative = (weights / weights.sum(-1, keepdim=True)).cumsum(-1)
        picked = (self.unit()[:, None] >= cumulative).sum(-1)
        return picked.clamp_max(weights.shape[-1] - 1)

    def pick(self, rows: Tensor, weights: Tensor | None = None) -> Tensor:
        """One of the rows `[K, C]` each, `[B, C]`."""
        return rows[self.index(torch.ones(len(rows)) if weights is None else weights)]

    def phases(self) -> Tensor:
        """Six angles, `[B, 6]`."""
        return torch.stack([self.unit() for _ in range(6)], dim=1) * (2 * math.pi)
