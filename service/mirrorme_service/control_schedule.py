"""The facial controls of a session: each holds from a frame on, until it is changed.

Knows nothing of names and ranges: a control is its index in the model's list.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class ControlValue:
    """What one control is set to."""

    value: float
    weight: float
    """0: speech alone decides; 1: the value decides."""


class ControlSchedule:
    """Changes to come, and the state that the settled frames left behind.

    Read in order: `take` applies the changes of the frames that it passes.
    """

    def __init__(self, num_controls: int) -> None:
        self._values = np.zeros(num_controls, np.float32)
        self._weights = np.zeros(num_controls, np.float32)
        self._changes: dict[int, dict[int, ControlValue]] = {}
        self._frames: list[int] = []

    def set(self, frame: int, changes: dict[int, ControlValue]) -> None:
        """Sets controls, by index, from a frame on; a later change of the same frame replaces."""
        if frame not in self._changes:
            self._changes[frame] = {}
            heapq.heappush(self._frames, frame)
        self._changes[frame].update(changes)

    def take(
        self, first_frame: int, num_frames: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Values and weights of consecutive frames, each `[num_frames, num_controls]`.

        A control of weight 0 has the value 0. Frames may not be taken twice.
        """
        values = np.empty((num_frames, len(self._values)), np.float32)
        weights = np.empty_like(values)
        for i in range(num_frames):
            while self._frames and self._frames[0] <= first_frame + i:
                self._apply(self._changes.pop(heapq.heappop(self._frames)))
            values[i], weights[i] = self._values, self._weights
        return values, weights

    def to_record(self) -> Any:
        """All of it, for `restore`."""
        changes = {
            frame: {index: (change.value, change.weight) for index, change in changes.items()}
            for frame, changes in self._changes.items()
        }
        return self._values, self._weights, changes

    def restore(self, record: Any) -> None:
        """Holds what another one held."""
        self._values, self._weights, changes = record
        self._changes = {
            frame: {index: ControlValue(*change) for index, change in changes.items()}
            for frame, changes in changes.items()
        }
        self._frames = sorted(self._changes)

    def _apply(self, changes: dict[int, ControlValue]) -> None:
        for index, change in changes.items():
            self._values[index] = change.value if change.weight > 0 else 0
            self._weights[index] = change.weight
