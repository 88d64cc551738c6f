"""Locks by key, for what is to be done once for each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass
class _CountedLock:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    num_users: int = 0
    """Calls that hold it or wait for it."""


class KeyedLocks:
    """A lock for each key in use; keys without users take no memory. For one event loop."""

    def __init__(self) -> None:
        self._locks: dict[str, _CountedLock] = {}

    def is_held(self, key: str) -> bool:
        """Whether a call holds it."""
        return key in self._locks

    @asynccontextmanager
    async def hold(self, key: str) -> AsyncIterator[None]:
        """Waits for the key's lock, and holds it inside."""
        counted = self._locks.setdefault(key, _CountedLock())
        counted.num_users += 1
        try:
            async with counted.lock:
                yield
        finally:
            counted.num_users -= 1
            if not counted.num_users:
                del self._locks[key]
