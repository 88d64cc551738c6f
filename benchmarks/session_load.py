"""Sessions that come and go, drawn from a seed: what autoscaling and the fleet are tried with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Sessions:
    """Starts and lengths, by start."""

    start_s: NDArray[np.float64]
    length_s: NDArray[np.float64]

    def active(self, times_s: NDArray[np.float64]) -> NDArray[np.int64]:
        """How many go on at each time."""
        started = np.searchsorted(self.start_s, times_s, side="right")
        ended = np.searchsorted(np.sort(self.start_s + self.length_s), times_s, side="right")
        return started - ended


def draw_sessions(
    seed: int,
    until_s: float,
    wanted: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    mean_length_s: float,
) -> Sessions:
    """Poisson arrivals such that about `wanted(t)` sessions are active, with lengths of calls.

    Lengths are log-normal (sigma 1): most are short, some are very long.
    """
    rng = np.random.default_rng(seed)
    grid_s = np.arange(0.0, until_s, 1.0)
    most = float(wanted(grid_s).max()) / mean_length_s
    count = rng.poisson(most * until_s)
    start_s = np.sort(rng.uniform(0, until_s, count))
    kept = start_s[rng.uniform(0, most, count) < wanted(start_s) / mean_length_s]
    length_s = rng.lognormal(np.log(mean_length_s) - 0.5, 1.0, len(kept))
    return Sessions(kept, length_s)


def rise_and_fall(
    low: float, high: float, rise_s: float, hold_s: float, fall_s: float, at_s: float
) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    """A load that is low until `at_s`, rises, holds, falls, and is low again."""

    def wanted(times_s: NDArray[np.float64]) -> NDArray[np.float64]:
        points_s = np.cumsum([0, at_s, rise_s, hold_s, fall_s])
        return np.interp(times_s, points_s, [low, low, high, high, low])

    return wanted
