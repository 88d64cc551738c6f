"""Base of frozen dataclasses whose every field is a tensor with a leading batch dimension.

Holds no data of its own. A field may itself be such a record.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Self

import torch
from torch import Tensor


class Batched:
    """Maps, moves, cuts and joins a record of tensors as if it were one tensor."""

    def map(self, function: Callable[[Tensor], Tensor]) -> Self:
        """The record with `function` applied to every tensor."""
        values: dict[str, Any] = {}
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            values[field.name] = (
                value.map(function) if isinstance(value, Batched) else function(value)
            )
        return type(self)(**values)

    def to(self, device: torch.device | str) -> Self:
        """The record on another device."""
        return self.map(lambda tensor: tensor.to(device))

    def __getitem__(self, index: slice | Tensor) -> Self:
        """The records that `index` picks; always keeps the batch dimension."""
        return self.map(lambda tensor: tensor[index])

    def __len__(self) -> int:
        return len(self._first())

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self._first().device

    def spread(self) -> Self:
        """Every tensor with two trailing dimensions of 1, to go with fields `[B, h, w]`."""
        return self.map(lambda tensor: tensor[..., None, None])

    @classmethod
    def join(cls, records: Sequence[Self]) -> Self:
        """Records end to end along the batch."""
        values: dict[str, Any] = {}
        for field in dataclasses.fields(cls):  # type: ignore[arg-type]
            items = [getattr(record, field.name) for record in records]
            head = items[0]
            values[field.name] = (
                type(head).join(items) if isinstance(head, Batched) else torch.cat(items)
            )
        return cls(**values)

    def _first(self) -> Tensor:
        value = getattr(self, dataclasses.fields(self)[0].name)  # type: ignore[arg-type]
        return value._first() if isinstance(value, Batched) else value
