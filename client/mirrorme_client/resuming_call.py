"""A session's call that outlives its stream: when that breaks, the session goes on in another one.

It is used as a `LiveCall` is. Knows of requests and responses what a takeover needs, no more.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from mirrorme.animate.v1 import animation_pb2 as pb

from mirrorme_client.endpoints import Endpoints
from mirrorme_client.errors import (
    AnimationError,
    ServerFault,
    ServerUnavailable,
    SessionClosed,
    SessionStalled,
    TimedOut,
)
from mirrorme_client.live_call import LiveCall
from mirrorme_client.request_log import RequestLog

_FIRST_PAUSE_S, _MAX_PAUSE_S = 0.1, 2.0
# A server that is there answers a takeover sooner.
_MAX_START_S = 10.0
# For another server, when the one in use goes away.
_MAX_SEARCH_S = 2.0
_MAX_FRUITLESS = 8


class ResumingCall:
    """Owns a session's calls, one after the other, and the requests that may be needed again.

    `open` once, `close` always; both in the same task. The first request is the config.
    """

    def __init__(
        self, endpoints: Endpoints, *, stall_timeout_s: float, reconnect_timeout_s: float
    ) -> None:
        self._endpoints = endpoints
        self._endpoint = endpoints.current
        self._stall_timeout_s = stall_timeout_s
        self._reconnect_timeout_s = reconnect_timeout_s
        self._tasks = asyncio.TaskGroup()
        self._running: list[asyncio.Task[None]] = []
        self._config: asyncio.Future[pb.StreamAnimateRequest] = asyncio.Future()
        self._call: LiveCall | None = None
        self._attached = asyncio.Event()
        """There is a call, or there will be none: `failure` says why."""
        self._left = asyncio.Event()
        """The call in use is of no use any more."""
        self._sending = asyncio.Lock()
        self._log = RequestLog()
        self._unsent: pb.StreamAnimateRequest | None = None
        """The last one of the log, while it waits for room."""
        self._started: pb.SessionStarted | None = None
        self._is_started_taken = False
        self._next_frame = 0
        self._events: list[pb.SessionEvent] = []
        """Since the last frame: they may come again."""
        self._half_closed = False
        self._is_over = False
        self._is_summed = False
        self._num_fruitless = 0
        """Calls, one after the other, that brought no frame."""
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
            if self._is_over:
                return None
            await self._attached.wait()
            call = self._call
            if call is None:
                return None
            if not self._is_started_taken:
                self._is_started_taken = True
                return pb.StreamAnimateResponse(started=self._started)
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
        """A call in which the session has started, or goes on; tries one server after the other.

        Raises:
            AnimationError: no server wants it, or none in time.
        """
        # Whoever sends has noticed that the call before is gone. `_replay` releases it.
        await self._sending.acquire()
        try:
            return await self._retried()
        except BaseException:
            self._sending.release()
            raise

    async def _retried(self) -> LiveCall:
        num_tried, pause_s = 0, _FIRST_PAUSE_S
        deadline_s = time.monotonic() + self._reconnect_timeout_s
        while True:
            try:
                return await self._begun()
            except AnimationError as error:
                self._endpoints.leave(self._endpoint)
                num_tried += 1
                all_tried = num_tried % len(self._endpoints) == 0
                no_more = self._is_final(error) or time.monotonic() >= deadline_s
                if not error.retryable or (all_tried and no_more):
                    raise
            if all_tried:
                await asyncio.sleep(pause_s * random.uniform(0.5, 1))
                pause_s = min(2 * pause_s, _MAX_PAUSE_S)

    def _is_final(self, error: AnimationError) -> bool:
        """Whether a session that has not begun is refused for good, when no server takes it."""
        may_restart = len(self._endpoints) > 1 and isinstance(error, ServerUnavailable)
        return self._started is None and not may_restart

    async def _begun(self) -> LiveCall:
        """Opens a call at the server in turn, and begins it."""
        self._endpoint = self._endpoints.current
        call = LiveCall(
            self._endpoints.opener(self._endpoint), stall_timeout_s=self._stall_timeout_s
        )
        await call.open()
        try:
            await call.put(self._first_request())
            started = await self._answer(call)
            requests = self._log.after(started.resume_from)
        except BaseException:
            await call.close()
            raise
        if self._started is None:
            self._started = started
        self._left.clear()
        self._call = call
        self._attached.set()
        self.start(self._replay(call, requests))
        return call

    def _first_request(self) -> pb.StreamAnimateRequest:
        if self._started is None:
            return self._config.result()
        takeover = pb.SessionTakeover(
            session_id=self._started.session_id,
            next_frame_index=self._next_frame,
            takeover_token=self._started.takeover_token,
        )
        return pb.StreamAnimateRequest(config=pb.SessionConfig(takeover=takeover))

    async def _answer(self, call: LiveCall) -> pb.SessionStarted:
        try:
            async with asyncio.timeout(None if self._started is None else _MAX_START_S):
                response = await call.take()
        except TimeoutError:
            raise TimedOut(f"no answer to a takeover within {_MAX_START_S:g} s") from None
        if response is not None and response.HasField("started"):
            return response.started
        what = response.WhichOneof("message") if response is not None else "its end"
        raise call.failure or ServerFault(
            f"the server must begin a session with `started`, but it sent {what}"
        )

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
        other = await self._endpoints.find_other(self._endpoint, _MAX_SEARCH_S)
        if other is not None and call is self._call and self._is_resumable:
            self._endpoints.current = other
            self._leave(call)

    def _leave(self, call: LiveCall) -> None:
        if call is self._call:
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
        if call.failure is None or self._is_summed:
            self._is_over = True
        elif self._can_go_on(call.failure):
            self._num_fruitless += 1
            self._endpoints.leave(self._endpoint)
            self._leave(call)
        else:
            self.failure = self.failure or call.failure
            self._is_over = True

    def _is_news(self, response: pb.StreamAnimateResponse, call: LiveCall) -> bool:
        """Takes note of a response; False: it is nothing for whoever takes."""
        match response.WhichOneof("message"):
            case "frames":
                batch = response.frames
                self._next_frame = batch.first_frame_index + len(batch.frames)
                self._num_fruitless = 0
                self._events.clear()
            case "event":
                if response.event in self._events:
                    return False
                self._events.append(response.event)
                if response.event.HasField("going_away"):
                    self.start(self._move(call))
            case "state_saved":
                self._log.forget_before(response.state_saved.input)
                return False
            case "summary":
                self._is_summed = True
        return True

    @property
    def _is_resumable(self) -> bool:
        return self._started is not None and bool(self._started.takeover_token)

    def _can_go_on(self, failure: BaseException) -> bool:
        return (
            self._is_resumable
            and isinstance(failure, ServerUnavailable)
            and self._num_fruitless < _MAX_FRUITLESS
        )

    def _check_resumable(self, call: LiveCall, error: AnimationError) -> None:
        """A call did not take a request, which is then sent in the next one, if there is one."""
        if call is not self._call:
            return
        if call.failure is None or not self._can_go_on(call.failure):
            raise error
        self._leave(call)

    def _raise_if_half_closed(self) -> None:
        if self.failure is None and self._half_closed:
            raise SessionClosed("nothing more can be sent: the session is finished")
