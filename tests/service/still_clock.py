"""A wall clock that stands still until a test moves it."""

from __future__ import annotations

import asyncio


class StillClock:
    """See `WallClock`."""

    def __init__(self) -> None:
        self._now_s = 1000.0
        self._waiting: list[tuple[float, asyncio.Event]] = []

    def now_s(self) -> float:
        return self._now_s

    def move_to(self, time_s: float) -> None:
        """Lets time pass; the clock never goes back."""
        self._now_s = max(self._now_s, time_s)
        for until_s, come in self._waiting:
            if until_s <= self._now_s:
                come.set()

    async def wait(self, event: asyncio.Event, until_s: float | None) -> None:
        if until_s is None:
            await event.wait()
            return
        if until_s <= self._now_s:
            return
        come = asyncio.Event()
        entry = (until_s, come)
        self._waiting.append(entry)
        tasks = [asyncio.ensure_future(event.wait()), asyncio.ensure_future(come.wait())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._waiting.remove(entry)
            for task in tasks:
                task.cancel()
