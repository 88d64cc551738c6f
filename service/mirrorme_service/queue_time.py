"""How long engine calls waited before they ran, summed for the task that makes them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass
class QueueTime:
    """Grows with each call."""

    total_s: float = 0.0


_queue_time: ContextVar[QueueTime | None] = ContextVar("queue_time", default=None)


@contextmanager
def measured_queue_time() -> Iterator[QueueTime]:
    """Of the calls made inside."""
    measured = QueueTime()
    token = _queue_time.set(measured)
    try:
        yield measured
    finally:
        _queue_time.reset(token)


def add_queue_time(waited_s: float) -> None:
    """A call of this task has ended and had waited so long."""
    if (measured := _queue_time.get()) is not None:
        measured.total_s += waited_s
