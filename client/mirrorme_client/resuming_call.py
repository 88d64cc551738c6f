"""A session's call that outlives its stream: when that breaks, the session goes on in another one.

It is used as a `LiveCall` is. Where the next stream is opened is `call_opener.py`'s, what has come
`session_progress.py`'s, and what may have to be sent again `request_log.py`'s.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from mirrorme.animate.v1 import animation_pb2 as pb

from mirrorme_client.call_opener import CallOpener
from mirrorme_client.endpoints import Endpoints
from mirrorme_client.errors import AnimationError, SessionClosed, SessionStalled
from mirrorme_client.live_call import LiveCall
from mirrorme_client.request_log import RequestLog
from mirrorme_client.session_progress import SessionProgress


class ResumingCall:
    """Owns a session's calls, one after the other, and the requests that may be needed again.

    `open` once, `close` always; both in the same task. The first request is the config.
    """

    def __init__(
        self, endpoints: Endpoints, *, stall_timeout_s: float, reconnect_timeout_s: float
    ) -> None:
        self._progress = SessionProgress()
        self._log = RequestLog()
        self._opener = CallOpener(
            endpoints,
            self._progress,
            self._log,
            stall_timeout_s=stall_timeout_s,
            reconnect_timeout_s=reconnect_timeout_s,
        )
        self._tasks = asyncio.TaskGroup()
        self._running: list[asyncio.Task[None]] = []
        self._config: asyncio.Future[pb.StreamAnimateRequest] = asyncio.Future()
        self._call: LiveCall | None = None
        self._attached = asyncio.Event()
        """There is a call, or there will be none: `failure` says why."""
        self._left = asyncio.Event()
        """The call in use is of no use any more."""
        self._sending = asyncio.Lock()
        self._unsent: pb.StreamAnimateRequest | None = None
        """The last one of the log, while it waits for room."""
        self._arrived: deque[pb.StreamAnimateResponse] = deque()
        """What comes before the responses of the call in use: `started`, and what the calls before
        brought and nobody took in time."""
        self._half_closed = False
        self._is_over = False
        self.failure: BaseException | None = None
        """Why the session ended, if it failed."""

    async def open(self) -> None:
        """Starts. Nothing is sent before the first `put`."""
        await self._tasks.__aenter__()
        self.start(self._supervise())

    async def close(self) -> None:
        """Cancels what still runs and waits for it."""
        self._is_over = True
        for task in self._running:
            task.cancel()
        # Without the caller's exception, which so passes the group unwrapped.
        await self._tasks.__aexit__(None, None, None)

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs a task that ends with the session, at the latest."""
        self._running.append(self._tasks.create_task(work))

    def fail(self, failure: BaseException) -> None:
        """Ends the session. The first failure is the one that counts."""
        self.failure = self.failure or failure
        if self._call is not None:
            self._call.fail(failure)
        self._attached.set()

    async def put(self, request: pb.StreamAnimateRequest, *, may_stall: bool = False) -> None:
        """See `LiveCall.put`. While the session has no stream, it waits for one."""
        if request.HasField("config"):
            self._config.set_result(request)
            return
        self._raise_if_half_closed()
        async with self._sending_to() as call:
            self._log.append(request)
            self._unsent = request
            try:
                await call.put(request, may_stall=may_stall)
            except (SessionStalled, asyncio.CancelledError):
                self._log.take_back()
                raise
            except AnimationError as error:
                self._check_resumable(call, error)
            finally:
                self._unsent = None

    async def overtake(self, request: pb.StreamAnimateRequest) -> None:
        """See `LiveCall.overtake`."""
        self._raise_if_half_closed()
        call = self._call
        if call is None or (self._sending.locked() and self._unsent is None):
            await self.put(request)  # what is sent again goes first
            return
        try:
            dropped = await call.overtake(request)
        except AnimationError as error:
            dropped = []
            self._check_resumable(call, error)
        self._log.overtake(request, dropped, self._unsent)

    async def half_close(self, *, may_stall: bool = False) -> None:
        """See `LiveCall.half_close`."""
        self._raise_if_half_closed()
        async with self._sending_to() as call:
            self._half_closed = True
            try:
                await call.half_close(may_stall=may_stall)
            except (SessionStalled, asyncio.CancelledError):
                self._half_closed = False
                raise
            except AnimationError as error:
                self._check_resumable(call, error)

    def put_ack(self, request: pb.StreamAnimateRequest) -> None:
        """See `LiveCall.put_ack`."""
        if self._call is not None:
            self._call.put_ack(request)

    async def take(self) -> pb.StreamAnimateResponse | None:
        """See `LiveCall.take`. What one stream repeats of another is left out."""
        while True:
            if self._arrived:
                return self._arrived.popleft()
            if self._is_over:
                return None
            await self._attached.wait()
            call = self._call
            if call is None:
                if self._attached.is_set():
                    return None
            elif not self._arrived:
                response = await call.take()
                if response is None:
                    self._ended(call)
                elif self._is_news(response, call):
                    return response

    # The streams.

    async def _supervise(self) -> None:
        """Opens a call, and another one whenever that is left."""
        await self._config
        try:
            while not self._is_over:
                call = await self._opened()
                try:
                    await self._left.wait()
                finally:
                    self._detach()
                    await call.close()
        except AnimationError as error:
            self.failure = self.failure or error
        finally:
            self._attached.set()

    async def _opened(self) -> LiveCall:
        """A call in which the session has started, or goes on.

        Raises:
            AnimationError: no server wants it, or none in time.
        """
        # Whoever sends has noticed that the call before is gone. `_replay` releases it.
        await self._sending.acquire()
        try:
            call, started, requests = await self._opener.open(self._config.result())
        except BaseException:
            self._sending.release()
            raise
        if self._progress.started is None:
            self._progress.started = started
            self._arrived.append(pb.StreamAnimateResponse(started=started))
        self._left.clear()
        self._call = call
        self._attached.set()
        self.start(self._replay(call, requests))
        return call

    async def _replay(self, call: LiveCall, requests: list[pb.StreamAnimateRequest]) -> None:
        """Sends again what the server does not have, before anything else is sent."""
        try:
            for request in requests:
                await call.put(request, may_stall=True)
            if self._half_closed:
                await call.half_close(may_stall=True)
        except AnimationError:
            pass  # whoever takes learns why
        finally:
            self._sending.release()

    async def _move(self, call: LiveCall) -> None:
        """The server goes away: goes on at another one, if one is there."""
        other = await self._opener.find_other_server()
        if other is not None and call is self._call and self._progress.is_resumable:
            self._opener.use_server(other)
            self._leave(call)

    def _broke(self, call: LiveCall) -> None:
        """The call in use broke, as whoever sends or takes noticed first."""
        self._opener.leave_server()
        self._leave(call)
        self._progress.note_break()

    def _leave(self, call: LiveCall) -> None:
        """The session goes on in another call, behind what this one brought."""
        self._arrived.extend(one for one in call.take_arrived() if self._is_news(one, call))
        self._is_over = self._is_over or self._progress.is_summed
        self._detach()
        self._left.set()

    def _detach(self) -> None:
        self._call = None
        self._attached.clear()

    # What is taken and sent.

    @asynccontextmanager
    async def _sending_to(self) -> AsyncIterator[LiveCall]:
        """The call in use, for one sender at a time."""
        while True:
            if self.failure is not None:
                raise self.failure
            await self._attached.wait()
            async with self._sending:
                if self._call is not None:
                    yield self._call
                    return
            if self._is_over or self._attached.is_set():
                raise self.failure or SessionClosed("nothing more can be sent: the session is over")

    def _ended(self, call: LiveCall) -> None:
        """A call gives no more responses: it ended, or broke, or was left."""
        if call is not self._call:
            return
        if call.failure is None or self._progress.is_summed:
            self._is_over = True
        elif self._progress.outlives(call.failure):
            self._broke(call)
        else:
            self.failure = self.failure or call.failure
            self._is_over = True

    def _is_news(self, response: pb.StreamAnimateResponse, call: LiveCall) -> bool:
        """Takes note of a response; False: it is nothing for whoever takes."""
        if response.HasField("state_saved"):
            self._log.forget_before(response.state_saved.input)
            return False
        if not self._progress.note(response):
            return False
        if response.event.HasField("going_away"):
            self.start(self._move(call))
        return True

    def _check_resumable(self, call: LiveCall, error: AnimationError) -> None:
        """A call did not take a request, which is then sent in the next one, if there is one."""
        if call is not self._call:
            return
        if not self._progress.outlives(call.failure):
            raise error
        self._broke(call)

    def _raise_if_half_closed(self) -> None:
        if self.failure is None and self._half_closed:
            raise SessionClosed("nothing more can be sent: the session is finished")
