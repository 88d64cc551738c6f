"""Which waiting calls are run next, and together. Integers and order only: no tensors, no clock."""

from __future__ import annotations

from collections import deque
from typing import Generic, Protocol, TypeVar


class Queued(Protocol):
    """What the queue must know of a call."""

    num_rows: int
    alone: bool
    """True: never joined with others."""


T = TypeVar("T", bound=Queued)


class CallQueue(Generic[T]):
    """Waiting calls in order of arrival, bounded in number.

    Nothing overtakes: a batch is the longest run of calls from the front that fits.
    """

    def __init__(self, *, max_calls: int, max_batch_rows: int) -> None:
        self._max_calls = max_calls
        self._max_batch_rows = max_batch_rows
        self._calls: deque[T] = deque()

    def __len__(self) -> int:
        return len(self._calls)

    @property
    def oldest(self) -> T | None:
        """The call at the front."""
        return self._calls[0] if self._calls else None

    @property
    def fills_batch(self) -> bool:
        """True: waiting for further calls would not make the next batch larger."""
        return sum(call.num_rows for call in self._calls) >= self._max_batch_rows

    def push(self, call: T) -> bool:
        """Puts a call at the end. False: the queue is full and the call was not taken."""
        if len(self._calls) >= self._max_calls:
            return False
        self._calls.append(call)
        return True

    def give_back(self, calls: list[T]) -> None:
        """Puts pulled calls back to the front, in their order, even above the bound."""
        self._calls.extendleft(reversed(calls))

    def discard(self, call: T) -> None:
        """Frees the place of a call, if it has one."""
        if call in self._calls:
            self._calls.remove(call)

    def pull(self) -> list[T]:
        """Takes the next batch; empty when nothing waits."""
        batch: list[T] = []
        num_rows = 0
        while self._calls:
            call = self._calls[0]
            num_rows += call.num_rows
            if batch and (num_rows > self._max_batch_rows or call.alone):
                break
            batch.append(self._calls.popleft())
            if call.alone:
                break
        return batch

    def clear(self) -> list[T]:
        """Takes all calls."""
        calls = list(self._calls)
        self._calls.clear()
        return calls
