"""The wall clock, which paces and limits. Media time knows nothing of it."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol


class WallClock(Protocol):
    """Tells the time and waits; tests bring one that stands still until they move it."""

    def now_s(self) -> float:
        """Seconds, never going back."""
        ...

    async def wait(self, event: asyncio.Event, until_s: float | None) -> None:
        """Returns once the event is set, or the time has come. None: there is no such time."""
        ...


class SystemClock:
    """The machine's clock, `time.monotonic`."""

    def now_s(self) -> float:
        """See `WallClock`."""
        return time.monotonic()

    async def wait(self, event: asyncio.Event, until_s: float | None) -> None:
        """See `WallClock`."""
        left_s = None if until_s is None else until_s - self.now_s()
        if left_s is not None and left_s <= 0:
            return
        try:
            async with asyncio.timeout(left_s):
                await event.wait()
        except TimeoutError:
            pass
