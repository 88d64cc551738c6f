"""The status that a server ended a streaming call with.

grpc.aio loses it when a write fails because the server has just ended the call: it then puts
"Internal error from Core" in the status' place, before or after it arrived (grpc/grpc#36066).
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc
import grpc.aio

_Result = TypeVar("_Result")

_OVERWRITTEN = (grpc.StatusCode.INTERNAL, "Internal error from Core")
_MAX_WAIT_S = 1.0
_POLL_S = 0.01


@dataclass(frozen=True)
class Status:
    """How a call ended."""

    code: grpc.StatusCode
    details: str
    trailing_metadata: tuple[tuple[str, str | bytes], ...] = ()

    @property
    def is_overwritten(self) -> bool:
        """True: this is a failed write speaking, not the server."""
        return (self.code, self.details) == _OVERWRITTEN


class FinalStatus:
    """Watches a call from its start; `wait` gives the server's status once the call is done."""

    def __init__(self, call: grpc.aio.Call) -> None:
        self._call = call
        self._first: Status | None = None
        # Called at once when the first status is there, and only then.
        call.add_done_callback(self._on_done)

    async def wait(self) -> Status:
        """The server's status; what grpc.aio has if the server's does not come soon."""
        await self._call.code()
        status = self._first or await _status(self._call)
        for _ in range(round(_MAX_WAIT_S / _POLL_S)):
            if not status.is_overwritten:
                break
            await asyncio.sleep(_POLL_S)
            status = await _status(self._call)
        return status

    def _on_done(self, call: grpc.aio.Call) -> None:
        self._first = _without_waiting(_status(call))


async def _status(call: grpc.aio.Call) -> Status:
    metadata = await call.trailing_metadata()
    return Status(await call.code(), await call.details(), tuple(metadata or ()))


def _without_waiting(coroutine: Coroutine[Any, Any, _Result]) -> _Result | None:
    """Runs a coroutine that has all it awaits; None if it has not."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    coroutine.close()
    return None
