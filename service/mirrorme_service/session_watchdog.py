"""Ends sessions in which nothing moves, and slows those that send too many messages."""

from __future__ import annotations

import asyncio
import math

from mirrorme.animate.v1 import animation_pb2 as pb

from mirrorme_service.caller import current_caller
from mirrorme_service.config import ServiceConfig
from mirrorme_service.delivery import Send
from mirrorme_service.errors import TimedOut
from mirrorme_service.wall_clock import WallClock

# A burst may bring as many messages at once as are allowed in so long.
_BURST_S = 2.0


class SessionWatchdog:
    """Watches one session: what is read, what is written, and when.

    Something moves while requests come or responses leave. In real time a response that does not
    leave is told from a slow one early: the video would be old.
    """

    def __init__(self, config: ServiceConfig, clock: WallClock, *, is_live: bool) -> None:
        self._clock = clock
        self._max_idle_s = config.max_idle_s
        stall_s = config.max_stall_s if is_live else config.max_idle_s
        self._max_stall_s = min(stall_s, config.max_idle_s)
        own = current_caller().max_requests_per_s
        self._requests_per_s = min(config.max_requests_per_s, math.inf if own is None else own)
        self._burst = _BURST_S * self._requests_per_s
        self._allowed = self._burst
        self._active_s = self._allowed_s = clock.now_s()
        self._writing_s: float | None = None
        """Since when a response is being written."""
        self._never = asyncio.Event()

    def watched(self, send: Send) -> Send:
        """Notes what is sent."""

        async def noted(response: pb.StreamAnimateResponse) -> None:
            self._writing_s = self._clock.now_s()
            await send(response)
            self._writing_s = None
            self._active_s = self._clock.now_s()

        return noted

    async def took_request(self) -> None:
        """A request was read. Returns when it may be acted on; until then none is read."""
        now_s = self._active_s = self._clock.now_s()
        grown = (now_s - self._allowed_s) * self._requests_per_s
        self._allowed = min(self._burst, self._allowed + grown) - 1
        self._allowed_s = now_s
        if self._allowed < 0:
            await self._clock.wait(self._never, now_s - self._allowed / self._requests_per_s)

    async def watch(self) -> None:
        """Runs beside the session.

        Raises:
            TimedOut: nothing moved for too long.
        """
        while True:
            now_s = self._clock.now_s()
            if self._writing_s is not None and now_s >= self._writing_s + self._max_stall_s:
                waited = f"for {self._max_stall_s:g} s"
                message = f"nothing could be sent {waited}: read the responses"
                raise TimedOut("CLIENT_NOT_READING", message)
            if self._writing_s is None and now_s >= self._active_s + self._max_idle_s:
                raise self._idle_error()
            # A write may begin to stall at any time, and is to be noticed in time.
            await self._clock.wait(self._never, now_s + self._max_stall_s / 4)

    def _idle_error(self) -> TimedOut:
        message = f"no request came for {self._max_idle_s:g} s: open a session when there is speech"
        return TimedOut("SESSION_IDLE", message)
