"""A bidirectional gRPC call that sends and receives in parallel with its user.

Knows requests and responses, not what they mean; `session.py` gives them their verbs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias

import grpc
import grpc.aio
from mirrorme.animate.v1 import animation_pb2 as pb

from mirrorme_client.errors import SessionClosed, SessionStalled, from_status
from mirrorme_client.final_status import FinalStatus

Call: TypeAlias = grpc.aio.StreamStreamCall[pb.StreamAnimateRequest, pb.StreamAnimateResponse]

_OUTGOING_MESSAGES = 4
_INCOMING_MESSAGES = 2
# A message costs its server more than the audio in it.
_MAX_JOINED_BYTES = 16 << 10


class LiveCall:
    """Owns one call, the tasks that write and read it, and the two short queues between.

    Because tasks of its own touch the call, cancelling or timing out whoever uses `put` and `take`
    does not break it. `open` once, `close` always; both in the same task.
    """

    def __init__(self, open_call: Callable[[], Call], *, stall_timeout_s: float) -> None:
        self._open_call = open_call
        self._stall_timeout_s = stall_timeout_s
        self._tasks = asyncio.TaskGroup()
        self._running: list[asyncio.Task[None]] = []
        self._outgoing: asyncio.Queue[pb.StreamAnimateRequest | None] = asyncio.Queue(
            _OUTGOING_MESSAGES
        )
        self._incoming: asyncio.Queue[pb.StreamAnimateResponse | None] = asyncio.Queue(
            _INCOMING_MESSAGES
        )
        self._next_outgoing: list[pb.StreamAnimateRequest | None] = []
        """At most one, taken from the queue already."""
        self._unsent_ack: pb.StreamAnimateRequest | None = None
        self._half_closed = False
        self._ended = False
        self._closing = False
        self._num_waiting_readers = 0
        self._num_taken = 0
        self.failure: BaseException | None = None
        """Why the call ended, if it failed."""

    async def open(self) -> None:
        """Starts the call. Nothing is sent before the first `put`."""
        self._call = self._open_call()
        self._status = FinalStatus(self._call)
        await self._tasks.__aenter__()
        self.start(self._write())
        self.start(self._read())

    async def close(self) -> None:
        """Cancels what still runs and waits for it."""
        self._closing = True
        self._call.cancel()
        for task in self._running:
            task.cancel()
        # Without the caller's exception, which so passes the group unwrapped.
        await self._tasks.__aexit__(None, None, None)
        # Nobody waits for what does not come any more.
        while not self._outgoing.empty():
            self._outgoing.get_nowait()
        while not self._incoming.empty():
            self._incoming.get_nowait()
        self._incoming.put_nowait(None)

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs a task that ends with the call, at the latest."""
        self._running.append(self._tasks.create_task(work))

    def fail(self, failure: BaseException) -> None:
        """Ends the call. The first failure is the one that counts."""
        self.failure = self.failure or failure
        self._call.cancel()

    async def put(self, request: pb.StreamAnimateRequest, *, may_stall: bool = False) -> None:
        """Sends a request, after those before it; waits for room.

        Args:
            may_stall: wait without bound when neither side makes progress.

        Raises:
            SessionStalled: nothing could be sent for long, and nobody took responses meanwhile.
            SessionClosed: after `half_close` or the end.
            AnimationError: the call failed.
        """
        self._raise_if_half_closed()
        await self._enqueue(request, may_stall)

    async def overtake(self, request: pb.StreamAnimateRequest) -> list[pb.StreamAnimateRequest]:
        """Sends a request before the audio that waits here, which is dropped and returned.

        Raises as `put` does.
        """
        self._raise_if_half_closed()
        waiting = [self._outgoing.get_nowait() for _ in range(self._outgoing.qsize())]
        dropped = []
        for held in waiting:
            if held is not None and held.HasField("audio"):
                dropped.append(held)
            else:
                self._outgoing.put_nowait(held)
        await self._enqueue(request, may_stall=False)
        return dropped

    async def half_close(self, *, may_stall: bool = False) -> None:
        """Says that no request follows. Raises as `put` does."""
        self._raise_if_half_closed()
        self._half_closed = True
        try:
            await self._enqueue(None, may_stall)
        except BaseException:
            self._half_closed = False
            raise

    def put_ack(self, request: pb.StreamAnimateRequest) -> None:
        """Sends an acknowledgement at the next chance; a later one replaces one still unsent."""
        if self._half_closed or self._ended:
            return
        if self._outgoing.empty():
            self._outgoing.put_nowait(request)
        else:
            self._unsent_ack = request

    async def take(self) -> pb.StreamAnimateResponse | None:
        """The next response; None at the end, any number of times. `failure` then says why."""
        if self._ended:
            return None
        self._num_waiting_readers += 1
        try:
            response = await self._incoming.get()
        finally:
            self._num_waiting_readers -= 1
        self._num_taken += 1
        self._ended = response is None
        return response

    def take_arrived(self) -> list[pb.StreamAnimateResponse]:
        """The responses that are there and nobody took."""
        arrived = []
        while not self._incoming.empty():
            response = self._incoming.get_nowait()
            if response is not None:
                arrived.append(response)
        return arrived

    def _raise_if_half_closed(self) -> None:
        if self.failure is None and self._half_closed:
            raise SessionClosed("nothing more can be sent: the session is finished")

    async def _enqueue(self, request: pb.StreamAnimateRequest | None, may_stall: bool) -> None:
        while True:
            if self.failure is not None:
                raise self.failure
            if self._ended or self._closing:
                raise SessionClosed("nothing more can be sent: the session is over")
            num_taken = self._num_taken
            try:
                async with asyncio.timeout(None if may_stall else self._stall_timeout_s):
                    await self._outgoing.put(request)
                return
            except TimeoutError:
                if num_taken == self._num_taken and not self._num_waiting_readers:
                    raise SessionStalled(
                        f"the server took nothing for {self._stall_timeout_s:g} s and nobody read "
                        "its frames: iterate over the session while pushing, or give the audio to "
                        "animate(..., audio=...)"
                    ) from None

    async def _write(self) -> None:
        """Writes queued requests; once broken it only empties the queue, so that nobody waits."""
        broken = False
        while (request := await self._take_outgoing()) is not None:
            if broken:
                continue
            try:
                ack, self._unsent_ack = self._unsent_ack, None
                if ack is not None:
                    await self._call.write(ack)
                # An acknowledgement that waited here is older than that one.
                if ack is None or not request.HasField("ack"):
                    await self._call.write(request)
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
                broken = True  # the reader learns why
            except asyncio.CancelledError:
                self._raise_if_closing()
                broken = True
        await self._call.done_writing()

    async def _take_outgoing(self) -> pb.StreamAnimateRequest | None:
        """The next request; audio together with the audio that waits behind it."""
        request = self._next_outgoing.pop() if self._next_outgoing else await self._outgoing.get()
        if request is None or not request.HasField("audio"):
            return request
        joined = [request.audio.data]
        while not self._outgoing.empty() and not self._next_outgoing:
            behind = self._outgoing.get_nowait()
            if behind is not None and behind.HasField("audio"):
                data = behind.audio.data
                if sum(map(len, joined)) + len(data) <= _MAX_JOINED_BYTES:
                    joined.append(data)
                    continue
            self._next_outgoing.append(behind)
        return pb.StreamAnimateRequest(audio=pb.AudioChunk(data=b"".join(joined)))

    async def _read(self) -> None:
        """Reads responses to the end, which is None in the queue."""
        try:
            # Not by `read`: once a write failed that gives nothing more, neither the responses that
            # were sent before the server ended the call nor, behind them, its status.
            async for response in self._call:
                await self._incoming.put(response)
        except grpc.aio.AioRpcError:
            pass  # the final status says more
        except asyncio.CancelledError:
            self._raise_if_closing()
        status = await self._status.wait()
        if status.code != grpc.StatusCode.OK:
            self.failure = self.failure or from_status(status)
        await self._incoming.put(None)

    def _raise_if_closing(self) -> None:
        """Tells the task's own cancellation from grpc.aio's: it raises CancelledError too for a
        call with the status CANCELLED, whoever cancelled it."""
        task = asyncio.current_task()
        if self._closing or (task is not None and task.cancelling()):
            raise asyncio.CancelledError
