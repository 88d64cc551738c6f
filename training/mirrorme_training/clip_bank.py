"""A ring of clips ready to train on, renewed a few at a time; a function of the step alone."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from mirrorme_training.recipe import BankConfig

Record = dict[str, Tensor]
"""Tensors of one clip by name; of the same shapes for every clip."""


class ClipBank:
    """Holds clips number `end - num_clips` to `end - 1`; `end` grows with the step.

    Clips are made one at a time from their number, so a bank that starts at a later step holds
    the same as one that went there step by step.
    """

    def __init__(self, config: BankConfig, make: Callable[[int], Record]) -> None:
        """`make` gives the record of a clip's number."""
        self._config = config
        self._make = make
        self._end = 0
        self._slots: Record = {}

    def advance(self, step: int) -> None:
        """Makes the clips that the step wants."""
        capacity = self._config.num_clips
        end = capacity
        if self._config.renew_every_steps:
            end += step // self._config.renew_every_steps
        for number in range(max(self._end, end - capacity), end):
            record = self._make(number)
            if not self._slots:
                self._slots = {
                    name: value.new_empty(capacity, *value.shape) for name, value in record.items()
                }
            for name, value in record.items():
                self._slots[name][number % capacity] = value
        self._end = end

    def __len__(self) -> int:
        return self._config.num_clips

    def __getitem__(self, name: str) -> Tensor:
        """One field of all clips, `[num_clips, ...]`. Not to be changed."""
        return self._slots[name]
