"""Places for sessions: taken or refused at once, given back however the session ends."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from mirrorme_service.caller import Caller
from mirrorme_service.errors import AtCapacity
from mirrorme_service.farewell import draining_error
from mirrorme_service.metrics import Metrics

_RETRY_AFTER_S = 2.0


class Admission:
    """Counts the sessions of one gateway."""

    def __init__(self, max_sessions: int, metrics: Metrics) -> None:
        self._num_active = 0
        self._empty = asyncio.Event()
        self._empty.set()
        self._num_by_caller: Counter[str] = Counter()
        self._draining = False
        self._metrics = metrics
        self.limit(max_sessions)

    def limit(self, max_sessions: int) -> None:
        """Takes so many sessions at once; those that are running stay."""
        self._max_sessions = max_sessions
        self._metrics.sessions_capacity.set(max_sessions)

    @property
    def num_active(self) -> int:
        """Sessions that hold a place."""
        return self._num_active

    @property
    def is_draining(self) -> bool:
        """Whether all further sessions are refused."""
        return self._draining

    def drain(self) -> None:
        """Refuses all further sessions."""
        self._draining = True

    async def wait_until_empty(self) -> None:
        """Returns once no session holds a place."""
        await self._empty.wait()

    @contextmanager
    def place(self, caller: Caller) -> Iterator[None]:
        """Holds a place of a caller for as long as the context lasts.

        Raises:
            AtCapacity: all are taken, or all that the caller may have.
            ServerUnavailable: the server drains.
        """
        if self._draining:
            raise draining_error()
        if self._num_active >= self._max_sessions:
            raise AtCapacity(
                "SESSIONS_FULL",
                f"{self._num_active} of {self._max_sessions} sessions are running: try again in "
                f"{_RETRY_AFTER_S:g} s, or another server",
                got=f"{self._num_active} running",
                expected=f"fewer than {self._max_sessions}",
                retry_after_s=_RETRY_AFTER_S,
            )
        num_own = self._num_by_caller[caller.name]
        if caller.max_sessions is not None and num_own >= caller.max_sessions:
            raise AtCapacity(
                "CALLER_SESSIONS_FULL",
                f"{num_own} of {caller.max_sessions} sessions of this caller are running: end one "
                "of them first",
                got=f"{num_own} running",
                expected=f"fewer than {caller.max_sessions}",
                retry_after_s=_RETRY_AFTER_S,
            )
        self._num_active += 1
        self._empty.clear()
        self._num_by_caller[caller.name] += 1
        self._metrics.sessions_active.set(self._num_active)
        try:
            yield
        finally:
            self._num_active -= 1
            self._num_by_caller[caller.name] -= 1
            if not self._num_by_caller[caller.name]:
                del self._num_by_caller[caller.name]
            self._metrics.sessions_active.set(self._num_active)
            if not self._num_active:
                self._empty.set()
