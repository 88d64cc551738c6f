"""The micro-batcher: joins calls of several tasks of one event loop into runs of one engine.

A state machine of callbacks, without a task of its own: a run is started when the engine is free
and something waits, and its end starts the next.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from mirrorme_engines.call_queue import CallQueue
from mirrorme_engines.compute import Compute, run_joined
from mirrorme_engines.engine import Tensors
from mirrorme_engines.errors import (
    EngineError,
    EngineFault,
    EngineOverloaded,
    EngineTimeout,
    EngineUnavailable,
)
from mirrorme_engines.manifest import EngineSpec
from mirrorme_engines.observer import BatchRecord, CallRecord, EngineObserver, Outcome, outcome_of

log = logging.getLogger(__name__)

Results = dict[str, NDArray[np.generic]]


@dataclass(frozen=True)
class BatchOptions:
    """How calls wait for an in-process engine."""

    max_waiting_calls: int = 64
    """Calls queued behind the running one; the next is refused with EngineOverloaded."""
    default_timeout_s: float = 10.0
    """Deadline of calls that give none."""
    max_delay_s: float = 0.0
    """How long a free engine waits for further calls to join. 0: not at all."""
    close_grace_s: float = 5.0
    """How long `close` waits for a run that does not heed its abort."""

    def __post_init__(self) -> None:
        """Refuses values that cannot work."""
        if self.max_waiting_calls < 1:
            raise ValueError(f"max_waiting_calls is {self.max_waiting_calls}: want at least 1")
        for name in ("default_timeout_s", "close_grace_s"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}: want more than 0")
        if not self.max_delay_s >= 0:
            raise ValueError(f"max_delay_s is {self.max_delay_s}: want 0 or more")


@dataclass(eq=False)
class _Call:
    inputs: Tensors
    num_rows: int
    future: asyncio.Future[Results]
    arrived_s: float
    timeout_s: float
    started_s: float | None = field(default=None, init=False)
    alone: bool = field(default=False, init=False)

    @property
    def deadline_s(self) -> float:
        return self.arrived_s + self.timeout_s


class Batcher:
    """Owns one engine's compute, its thread and the queue before it, until `close`."""

    def __init__(
        self,
        spec: EngineSpec,
        compute: Compute,
        options: BatchOptions,
        observer: EngineObserver,
        enter_thread: Callable[[], None] | None = None,
    ) -> None:
        """`enter_thread` is called in the engine's thread, before all else there."""
        self._spec = spec
        self._compute = compute
        self._options = options
        self._observer = observer
        self._queue: CallQueue[_Call] = CallQueue(
            max_calls=options.max_waiting_calls, max_batch_rows=spec.max_batch_size
        )
        self._executor = ThreadPoolExecutor(1, f"engine-{spec.name}", enter_thread)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._start: asyncio.Handle | None = None
        self._running: list[_Call] = []
        self._run: asyncio.Future[tuple[list[Results], float]] | None = None
        self._closed = False

    async def call(self, inputs: Tensors, num_rows: int, timeout_s: float | None) -> Results:
        """Queues a checked call and waits for its result.

        Cancelling the caller frees its place in the queue; a run that has begun goes on for the
        others.
        """
        loop = self._bind_loop()
        timeout_s = self._options.default_timeout_s if timeout_s is None else timeout_s
        call = _Call(inputs, num_rows, loop.create_future(), loop.time(), timeout_s)
        outcome: Outcome = "ok"
        expiry = loop.call_at(call.deadline_s, self._expire, call)
        try:
            self._admit(call)
            return await call.future
        except BaseException as error:
            outcome = outcome_of(error)
            raise
        finally:
            expiry.cancel()
            self._queue.discard(call)
            self._record_call(call, outcome)

    async def close(self) -> None:
        """Ends all calls with EngineUnavailable and waits for the thread to be free. Idempotent."""
        self._closed = True
        if self._start:
            self._start.cancel()
            self._start = None
        for call in [*self._queue.clear(), *self._running]:
            _fail(call, EngineUnavailable(f"{self._spec.name} was closed during the call"))
        self._compute.abort()
        run = self._run
        if run:
            await asyncio.wait([run], timeout=self._options.close_grace_s)
        ended = run is None or run.done()
        if not ended:
            log.warning("%s: a run does not end; its thread is left behind", self._spec.name)
        self._executor.shutdown(wait=ended)

    def _admit(self, call: _Call) -> None:
        if self._closed:
            raise EngineUnavailable(f"{self._spec.name} is closed")
        if call.timeout_s <= 0:
            raise self._timeout(call)
        if not self._queue.push(call):
            raise EngineOverloaded(
                f"{self._spec.name}: {len(self._queue)} calls wait already, the most allowed"
            )
        self._schedule()

    def _schedule(self) -> None:
        """Plans the next run, if the engine is free and a call waits."""
        oldest = self._queue.oldest
        if self._closed or self._run or oldest is None:
            return
        if self._start:
            if not self._queue.fills_batch:
                return
            self._start.cancel()
        # At the loop's next turn, not now: calls that are made in this turn join the same run.
        loop = self._bind_loop()
        due_s = oldest.arrived_s + self._options.max_delay_s
        if self._queue.fills_batch or due_s <= loop.time():
            self._start = loop.call_soon(self._start_run)
        else:
            self._start = loop.call_at(due_s, self._start_run)

    def _start_run(self) -> None:
        self._start = None
        calls = self._pull_live()
        if not calls:
            return
        loop = self._bind_loop()
        for call in calls:
            call.started_s = loop.time()
        self._running = calls
        self._run = loop.run_in_executor(
            self._executor,
            _run_counted,
            self._spec,
            self._compute,
            [call.inputs for call in calls],
            [call.num_rows for call in calls],
        )
        self._run.add_done_callback(partial(self._finish_run, calls, loop.time()))

    def _pull_live(self) -> list[_Call]:
        """The next calls that somebody still waits for and whose deadlines have not passed."""
        now_s = self._bind_loop().time()
        while calls := self._queue.pull():
            for call in calls:
                if call.deadline_s <= now_s:
                    self._expire(call)
            if live := [call for call in calls if not call.future.done()]:
                return live
        return []

    def _finish_run(
        self, calls: list[_Call], started_s: float, run: asyncio.Future[tuple[list[Results], float]]
    ) -> None:
        self._run = None
        self._running = []
        error = run.exception()
        results, cpu_s = run.result() if error is None else ([], 0.0)
        self._record_batch(calls, started_s, cpu_s, failed=error is not None)
        if error is None:
            for call, result in zip(calls, results, strict=True):
                if not call.future.done():
                    call.future.set_result(result)
        elif len(calls) > 1:
            for call in calls:
                call.alone = True
            self._queue.give_back([call for call in calls if not call.future.done()])
        else:
            _fail(calls[0], self._as_engine_error(error))
        self._schedule()

    def _expire(self, call: _Call) -> None:
        self._queue.discard(call)
        _fail(call, self._timeout(call))

    def _timeout(self, call: _Call) -> EngineTimeout:
        where = "while it waited" if call.started_s is None else "while it ran"
        return EngineTimeout(
            f"{self._spec.name}: no result within {call.timeout_s:.3f} s; it passed {where}"
        )

    def _as_engine_error(self, error: BaseException) -> EngineError:
        if isinstance(error, EngineError):
            return error
        fault = EngineFault(f"{self._spec.name} failed: {type(error).__name__}: {error}")
        fault.__cause__ = error
        return fault

    def _bind_loop(self) -> asyncio.AbstractEventLoop:
        loop = asyncio.get_running_loop()
        self._loop = self._loop or loop
        if self._loop is not loop:
            raise RuntimeError(f"{self._spec.name} belongs to another event loop")
        return loop

    def _record_call(self, call: _Call, outcome: Outcome) -> None:
        now_s = self._bind_loop().time()
        self._observer.call_ended(
            CallRecord(
                engine=self._spec.name,
                role=self._spec.role,
                outcome=outcome,
                total_s=now_s - call.arrived_s,
                queue_s=(call.started_s or now_s) - call.arrived_s,
                num_waiting=len(self._queue),
            )
        )

    def _record_batch(
        self, calls: list[_Call], started_s: float, cpu_s: float, *, failed: bool
    ) -> None:
        self._observer.batch_ended(
            BatchRecord(
                engine=self._spec.name,
                role=self._spec.role,
                batch_size=sum(call.num_rows for call in calls),
                num_calls=len(calls),
                run_s=self._bind_loop().time() - started_s,
                cpu_s=cpu_s,
                failed=failed,
            )
        )


def _run_counted(
    spec: EngineSpec, compute: Compute, calls: list[Tensors], sizes: list[int]
) -> tuple[list[Results], float]:
    """See `run_joined`; and the CPU time that it took."""
    started_s = time.thread_time() + compute.pool_cpu_s()
    results = run_joined(spec, compute, calls, sizes)
    return results, time.thread_time() + compute.pool_cpu_s() - started_s


def _fail(call: _Call, error: EngineError) -> None:
    if not call.future.done():
        call.future.set_exception(error)
