"""Engines that run on Triton servers, called over gRPC."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import grpc
import numpy as np
from numpy.typing import NDArray

from mirrorme_engines.engine import EngineSet, Tensors
from mirrorme_engines.errors import (
    EngineError,
    EngineTimeout,
    EngineUnavailable,
)
from mirrorme_engines.manifest import EngineSpec, Manifest
from mirrorme_engines.observer import CallRecord, EngineObserver, SilentObserver, outcome_of
from mirrorme_engines.tensor_check import check_inputs, check_outputs
from mirrorme_engines.triton_endpoints import Resolve, resolve_addresses
from mirrorme_engines.triton_model_check import model_version
from mirrorme_engines.triton_options import TritonOptions
from mirrorme_engines.triton_pool import TritonPool
from mirrorme_engines.triton_region import SHARED_MEMORY
from mirrorme_engines.triton_replica import AttemptTimes, TritonReplica
from mirrorme_engines.triton_status import Verdict, as_engine_error, judge

_MIN_ATTEMPT_S = 0.2
"""A server that does not answer within less may be well, and another would be no faster."""


async def open_triton_engines(
    folder: Path,
    options: TritonOptions,
    observer: EngineObserver | None = None,
    resolve: Resolve = resolve_addresses,
    shared_memory: Path = SHARED_MEMORY,
) -> EngineSet:
    """Opens the engines of the manifest in `folder` on Triton servers; needs no other file of it.

    Raises:
        ManifestError: the manifest is bad, or a server serves other engines.
        EngineUnavailable: no server answered in time.
    """
    manifest = await asyncio.to_thread(Manifest.load, folder)
    engines = {spec.name: model_version(spec) for spec in manifest.engines}
    pool = TritonPool(manifest, options, resolve, shared_memory, observer)
    await pool.open()

    def engine(spec: EngineSpec) -> TritonEngine:
        return TritonEngine(spec, engines[spec.name], pool, options, observer)

    default = manifest.engine("denoiser")
    return EngineSet(
        manifest=manifest,
        identity_encoder=engine(manifest.engine("identity_encoder")),
        audio_encoder=engine(manifest.engine("audio_encoder")),
        denoiser=engine(default),
        decoder=engine(manifest.engine("decoder")),
        platform=f"Triton {pool.version}, {pool.num_serving} of {len(pool.statuses())} servers",
        other_denoisers=tuple(
            engine(spec)
            for spec in manifest.engines
            if spec.role == "denoiser" and spec is not default
        ),
    )


class TritonEngine:
    """One model of a pool of Triton servers. Owns its calls in flight."""

    def __init__(
        self,
        spec: EngineSpec,
        version: str,
        pool: TritonPool,
        options: TritonOptions,
        observer: EngineObserver | None = None,
    ) -> None:
        self._spec = spec
        self._version = version
        self._pool = pool
        self._options = options
        self._observer = observer or SilentObserver()
        self._scopes: set[asyncio.Timeout] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._closed = False
        pool.join()

    @property
    def spec(self) -> EngineSpec:
        """Names, types and shapes, as the manifest gives them."""
        return self._spec

    @property
    def pool(self) -> TritonPool:
        """The servers; shared with the other engines of the set."""
        return self._pool

    async def infer(
        self, inputs: Tensors, *, timeout_s: float | None = None
    ) -> dict[str, NDArray[np.generic]]:
        """See `Engine.infer`."""
        call = _Call(time.monotonic())
        caught: BaseException | None = None
        try:
            batch_size = check_inputs(self._spec, inputs)
            return await self._bounded(call, inputs, batch_size, timeout_s)
        except BaseException as error:
            caught = error
            raise
        finally:
            self._observer.call_ended(self._record(call, caught))

    async def close(self) -> None:
        """See `Engine.close`."""
        if self._closed:
            return
        self._closed = True
        now = asyncio.get_running_loop().time()
        for scope in self._scopes:
            if not scope.expired():
                scope.reschedule(now)
        await self._idle.wait()
        await self._pool.leave()

    async def _bounded(
        self, call: _Call, inputs: Tensors, batch_size: int, timeout_s: float | None
    ) -> dict[str, NDArray[np.generic]]:
        """Ends a call at its deadline, or when the engine is closed, wherever it is."""
        if self._closed:
            raise EngineUnavailable(f"{self._spec.name} is closed")
        total_s = self._options.default_timeout_s if timeout_s is None else timeout_s
        if total_s <= 0:
            raise EngineTimeout(f"{self._spec.name}: no time was given: {total_s:g} s")
        scope = asyncio.timeout(total_s)
        try:
            async with scope:
                self._scopes.add(scope)
                self._idle.clear()
                return await self._attempts(call, inputs, batch_size, call.started + total_s)
        except TimeoutError as error:
            if self._closed:
                raise EngineUnavailable(f"{self._spec.name} was closed during the call") from error
            where = "while it ran" if call.sent else "while it waited for a server"
            raise EngineTimeout(
                f"{self._spec.name}: no result within {total_s:g} s, {where}{call.told()}"
            ) from error
        finally:
            self._scopes.discard(scope)
            if not self._scopes:
                self._idle.set()

    async def _attempts(
        self, call: _Call, inputs: Tensors, batch_size: int, deadline: float
    ) -> dict[str, NDArray[np.generic]]:
        while True:
            replica = await self._pool.acquire(call.tried)
            call.sent = time.monotonic()
            call.num_attempts += 1
            try:
                outputs = await replica.infer(
                    self._spec, self._version, inputs, batch_size, self._times(deadline)
                )
            except grpc.aio.AioRpcError as error:
                failure = as_engine_error(error, self._spec.name, replica.address)
                self._attempt_failed(call, replica, judge(error), failure)
            except TimeoutError as error:
                failure = EngineTimeout(f"{self._spec.name}: Triton at {replica.address}: {error}")
                self._attempt_failed(call, replica, Verdict.TIMEOUT, failure)
            else:
                self._pool.succeeded(replica)
                self._observer.attempt_ended(replica.address, "ok")
                if call.faulty is not None and call.last_error is not None:
                    # What one server can do and another cannot is the other's fault.
                    self._pool.failed(call.faulty, call.last_error, self._spec)
                check_outputs(self._spec, outputs, batch_size)
                return outputs

    def _times(self, deadline: float) -> AttemptTimes:
        """The times of an attempt, which leave some for another where there is another."""
        left_s = max(deadline - time.monotonic(), 0.001)
        # The call's own deadline ends a last attempt, and blames nobody.
        half = self._pool.num_serving > 1 and left_s / 2 >= _MIN_ATTEMPT_S
        return AttemptTimes.of(left_s / 2) if half else AttemptTimes.of(left_s, left_s + 1)

    def _attempt_failed(
        self, call: _Call, replica: TritonReplica, verdict: Verdict, failure: EngineError
    ) -> None:
        """Returns if the call may be tried again.

        Raises:
            EngineError: it may not.
        """
        self._observer.attempt_ended(replica.address, verdict.value)
        call.tried.add(replica)
        call.last_error = failure
        again = call.num_attempts < self._options.max_attempts
        match verdict:
            case Verdict.UNREACHABLE | Verdict.TIMEOUT:
                self._pool.failed(replica, failure, self._spec)
            case Verdict.OVERLOADED | Verdict.EXPIRED:
                again = again and self._pool.has_other(call.tried)
            case Verdict.FAULT:
                again = again and call.faulty is None and self._pool.has_other(call.tried)
                call.faulty = replica
        if not again:
            raise failure

    def _record(self, call: _Call, error: BaseException | None) -> CallRecord:
        now = time.monotonic()
        return CallRecord(
            engine=self._spec.name,
            role=self._spec.role,
            outcome="ok" if error is None else outcome_of(error),
            total_s=now - call.started,
            queue_s=(call.sent or now) - call.started,
            num_waiting=self._pool.num_waiting,
        )


class _Call:
    """What one call has been through."""

    def __init__(self, started: float) -> None:
        self.started = started
        self.sent: float | None = None
        """When the last attempt began."""
        self.num_attempts = 0
        self.tried: set[TritonReplica] = set()
        self.faulty: TritonReplica | None = None
        self.last_error: EngineError | None = None

    def told(self) -> str:
        """The last attempt's error, for the message of the call's."""
        return f"; before: {self.last_error}" if self.last_error else ""
