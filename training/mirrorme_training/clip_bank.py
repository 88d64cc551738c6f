"""A ring of clips ready to train on, renewed a few at a time; a function of the step alone."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from mirrorme_training.parts import WHOLE, Parts
from mirrorme_training.recipe import BankConfig, RecipeError

Record = dict[str, Tensor]
"""Tensors of one clip by name; of the same shapes for every clip."""


class ClipBank:
    """Holds clips number `end - num_clips` to `end - 1`; `end` grows with the step.

    Clips are made one at a time from their number, so a bank that starts at a later step holds
    the same as one that went there step by step. Of a batch in n parts, part p has the clips whose
    number is p modulo n; the bank makes those of its process, and shows one part's at a time.
    """

    def __init__(
        self,
        config: BankConfig,
        make: Callable[[int], Record],
        parts: Parts = WHOLE,
        setting: str = "bank.num_clips",
    ) -> None:
        """
        Args:
            config: of all parts together.
            make: gives the record of a clip's number.
            parts: of the batch.
            setting: of a recipe, that says how many clips there are.

        Raises:
            RecipeError: the parts would have different numbers of clips.
        """
        if config.num_clips % parts.count:
            raise RecipeError(
                f"{setting} is {config.num_clips}: want a multiple of {parts.count}, the "
                "parts of a batch"
            )
        self._config = config
        self._make = make
        self._parts = parts
        self._end = 0
        self._slots: dict[int, Record] = {part: {} for part in parts.own}
        self._shown = parts.own[0]

    def advance(self, step: int) -> None:
        """Makes the clips that the step wants."""
        capacity = self._config.num_clips
        end = capacity
        if self._config.renew_every_steps:
            end += step // self._config.renew_every_steps
        for number in range(max(self._end, end - capacity), end):
            place, part = divmod(number, self._parts.count)
            if part in self._slots:
                self._keep(self._slots[part], place % len(self), self._make(number))
        self._end = end

    def show(self, part: int) -> None:
        """Turns to the clips of a part that is this process's own."""
        if part not in self._slots:
            raise ValueError(f"part {part} is another process's")
        self._shown = part

    def __len__(self) -> int:
        return self._config.num_clips // self._parts.count

    def __getitem__(self, name: str) -> Tensor:
        """One field of all clips shown, `[len(self), ...]`. Not to be changed."""
        return self._slots[self._shown][name]

    def _keep(self, slots: Record, place: int, record: Record) -> None:
        for name, value in record.items():
            if name not in slots:
                slots[name] = value.new_empty(len(self), *value.shape)
            slots[name][place] = value
