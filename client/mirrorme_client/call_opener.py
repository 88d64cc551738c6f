"""Opens a session's calls, one after the other: at which server, and how often it is tried.

What the calls are used for is `resuming_call.py`'s.
"""

from __future__ import annotations

import asyncio
import random
import time

from mirrorme.animate.v1 import animation_pb2 as pb

from mirrorme_client.endpoints import Endpoints
from mirrorme_client.errors import AnimationError, ServerFault, ServerUnavailable, TimedOut
from mirrorme_client.live_call import LiveCall
from mirrorme_client.request_log import RequestLog
from mirrorme_client.session_progress import SessionProgress

_FIRST_PAUSE_S, _MAX_PAUSE_S = 0.1, 2.0
# A server that is there answers a takeover sooner.
_MAX_START_S = 10.0
# For another server, when the one in use goes away.
_MAX_SEARCH_S = 2.0


class CallOpener:
    """Knows the servers, and the one that has the session."""

    def __init__(
        self,
        endpoints: Endpoints,
        progress: SessionProgress,
        log: RequestLog,
        *,
        stall_timeout_s: float,
        reconnect_timeout_s: float,
    ) -> None:
        self._endpoints = endpoints
        self._progress = progress
        self._log = log
        self._stall_timeout_s = stall_timeout_s
        self._reconnect_timeout_s = reconnect_timeout_s
        self._endpoint = endpoints.current

    async def open(
        self, config: pb.StreamAnimateRequest
    ) -> tuple[LiveCall, pb.SessionStarted, list[pb.StreamAnimateRequest]]:
        """A call in which the session has started, or goes on; tries one server after the other.

        Args:
            config: what begins a session that has not started.

        Returns:
            The call, the server's answer, and the requests that are to be sent again.

        Raises:
            AnimationError: no server wants it, or none in time.
        """
        num_tried, pause_s = 0, _FIRST_PAUSE_S
        deadline_s = time.monotonic() + self._reconnect_timeout_s
        while True:
            self._endpoint = self._endpoints.current
            try:
                return await self._open_here(config)
            except AnimationError as error:
                self.leave_server()
                num_tried += 1
                all_tried = num_tried % len(self._endpoints) == 0
                no_more = self._is_final(error) or time.monotonic() >= deadline_s
                if not error.retryable or (all_tried and no_more):
                    raise
            if all_tried:
                await asyncio.sleep(pause_s * random.uniform(0.5, 1))
                pause_s = min(2 * pause_s, _MAX_PAUSE_S)

    def leave_server(self) -> None:
        """The server of the last call does not serve: the next one is tried first."""
        self._endpoints.leave(self._endpoint)

    async def find_other_server(self) -> int | None:
        """One that answers, of those that the session is not at."""
        return await self._endpoints.find_other(self._endpoint, _MAX_SEARCH_S)

    def use_server(self, index: int) -> None:
        """It is tried first."""
        self._endpoints.current = index

    async def _open_here(
        self, config: pb.StreamAnimateRequest
    ) -> tuple[LiveCall, pb.SessionStarted, list[pb.StreamAnimateRequest]]:
        has_started = self._progress.started is not None
        call = LiveCall(
            self._endpoints.opener(self._endpoint), stall_timeout_s=self._stall_timeout_s
        )
        await call.open()
        try:
            await call.put(self._progress.takeover() if has_started else config)
            started = await self._answer(call, _MAX_START_S if has_started else None)
            return call, started, self._log.after(started.resume_from)
        except BaseException:
            await call.close()
            raise

    async def _answer(self, call: LiveCall, timeout_s: float | None) -> pb.SessionStarted:
        try:
            async with asyncio.timeout(timeout_s):
                response = await call.take()
        except TimeoutError:
            raise TimedOut(f"no answer to a takeover within {timeout_s:g} s") from None
        if response is not None and response.HasField("started"):
            return response.started
        what = response.WhichOneof("message") if response is not None else "its end"
        raise call.failure or ServerFault(
            f"the server must begin a session with `started`, but it sent {what}"
        )

    def _is_final(self, error: AnimationError) -> bool:
        """Whether a session that has not begun is refused for good, when no server takes it."""
        may_restart = len(self._endpoints) > 1 and isinstance(error, ServerUnavailable)
        return self._progress.started is None and not may_restart
