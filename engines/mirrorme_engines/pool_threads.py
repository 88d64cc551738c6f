"""Threads that a library starts for itself. Linux; elsewhere none are known."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from mirrorme_engines.thread_priority import give_way

_TASKS = Path("/proc/self/task")
# Linux's number for the clock of a thread (CPUCLOCK_PERTHREAD | CPUCLOCK_SCHED in its sources).
_THREAD_CLOCK = 0b110

T = TypeVar("T")


class PoolThreads:
    """Threads of this process by their kernel's numbers."""

    def __init__(self, ids: frozenset[int] = frozenset()) -> None:
        self._ids = ids

    def cpu_s(self) -> float:
        """CPU time that they have used so far, those that have ended left out."""
        return sum(_cpu_s(thread_id) for thread_id in self._ids)

    def give_way(self) -> None:
        """Lowers their priority: see `thread_priority`."""
        for thread_id in self._ids:
            give_way(thread_id)


def with_its_threads(make: Callable[[], T]) -> tuple[T, PoolThreads]:
    """What `make` gives, and the threads that began meanwhile."""
    before = _thread_ids()
    made = make()
    return made, PoolThreads(_thread_ids() - before)


def _thread_ids() -> frozenset[int]:
    if not _TASKS.exists():
        return frozenset()
    return frozenset(int(task.name) for task in _TASKS.iterdir())


def _cpu_s(thread_id: int) -> float:
    try:
        return time.clock_gettime(~thread_id << 3 | _THREAD_CLOCK)
    except OSError:
        return 0.0
