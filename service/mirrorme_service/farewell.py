"""How a server that goes away parts from its sessions: told in-band, then ended at the deadline.

`Drain` is the server's, one for all; `Farewell` is a session's, around what it sends.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import TypeAlias

import grpc.aio
from mirrorme.animate.v1 import animation_pb2 as pb

from mirrorme_service.clock import MediaClock
from mirrorme_service.errors import ServerUnavailable
from mirrorme_service.session_counts import as_duration

Send: TypeAlias = Callable[[pb.StreamAnimateResponse], Awaitable[None]]

RETRY_AFTER_S = 0.2
"""Another server can be asked at once; a restarted one is back soon."""


class Drain:
    """Whether the server goes away, and how much time sessions have left."""

    def __init__(self) -> None:
        self._begun = asyncio.Event()
        self._deadline_s = math.inf

    def begin(self, grace_s: float) -> None:
        """Sessions have so long to end."""
        self._deadline_s = time.monotonic() + grace_s
        self._begun.set()

    @property
    def left_s(self) -> float:
        """Until sessions are ended; infinite while the server stays."""
        return max(0.0, self._deadline_s - time.monotonic())

    async def wait(self) -> None:
        """Returns once the server goes away."""
        await self._begun.wait()


def draining_error() -> ServerUnavailable:
    """What callers of a server that goes away are told."""
    message = "the server is shutting down: go on at another one"
    return ServerUnavailable("SERVER_DRAINING", message, retry_after_s=RETRY_AFTER_S)


class Farewell:
    """Passes on what one session sends, and puts `going_away` where the server begins to drain.

    It comes after `started` and before `summary`, whatever the session is doing.
    """

    def __init__(self, drain: Drain, clock: MediaClock, send: Send) -> None:
        self._drain = drain
        self._clock = clock
        self._send = send
        # A stream takes one message at a time.
        self._sending = asyncio.Lock()
        self._started = asyncio.Event()
        self._is_over = False
        self._next_frame = 0
        self._epoch = 0

    async def send(self, response: pb.StreamAnimateResponse) -> None:
        """Sends a response of the session."""
        async with self._sending:
            self._is_over = response.HasField("summary")
            await self._send(response)
            self._started.set()
            if response.HasField("frames"):
                batch = response.frames
                self._next_frame = batch.first_frame_index + len(batch.frames)
                self._epoch = batch.epoch

    async def say(self, response: pb.StreamAnimateResponse) -> None:
        """Sends what has no place of its own; nothing before the stream begins or after it ends."""
        async with self._sending:
            if self._started.is_set() and not self._is_over:
                # A client that is gone need not be told; its session is about to be cancelled.
                with suppress(grpc.aio.BaseError):
                    await self._send(response)

    @asynccontextmanager
    async def watch(self) -> AsyncIterator[None]:
        """Runs a session inside.

        Raises:
            ExceptionGroup: of ServerUnavailable, when it outlives the deadline.
        """
        async with asyncio.TaskGroup() as tasks:
            parting = tasks.create_task(self._part(), name="farewell")
            yield
            parting.cancel()

    async def _part(self) -> None:
        await self._drain.wait()
        try:
            async with asyncio.timeout(self._drain.left_s):
                await self._started.wait()
                await self.say(pb.StreamAnimateResponse(event=self._going_away()))
                await asyncio.sleep(math.inf)
        except TimeoutError:
            raise draining_error() from None

    def _going_away(self) -> pb.SessionEvent:
        return pb.SessionEvent(
            frame_index=self._next_frame,
            sample_index=self._clock.first_sample(self._next_frame),
            epoch=self._epoch,
            going_away=pb.GoingAway(deadline=as_duration(self._drain.left_s)),
        )
