"""Means of what a run logs, from one report to the next."""

from __future__ import annotations

import time

from torch import Tensor


class LogWindow:
    """Sums of numbers since the last report; they stay on the device until then."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}
        self._started_s = time.monotonic()
        self.num_steps = 0

    def add(self, numbers: dict[str, Tensor]) -> None:
        self.num_steps += 1
        for name, value in numbers.items():
            value = value.float()
            self._sums[name] = self._sums[name] + value if name in self._sums else value
            self._counts[name] = self._counts.get(name, 0) + 1

    def means(self) -> dict[str, float]:
        return {name: float(total) / self._counts[name] for name, total in self._sums.items()}

    @property
    def seconds(self) -> float:
        return max(1e-9, time.monotonic() - self._started_s)
