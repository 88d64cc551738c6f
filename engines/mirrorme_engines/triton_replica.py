"""One Triton server as its client sees it: a channel, its load, and whether it may have calls."""

# Triton's generated messages have no type stubs.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2_grpc

from mirrorme_engines.call_context import call_metadata
from mirrorme_engines.engine import Tensors
from mirrorme_engines.errors import EngineFault, EngineUnavailable
from mirrorme_engines.manifest import EngineSpec, Manifest
from mirrorme_engines.triton_model_check import check_server, model_version
from mirrorme_engines.triton_options import TritonOptions
from mirrorme_engines.triton_region import SHARED_MEMORY, Region
from mirrorme_engines.triton_shared_memory import SharedMemory
from mirrorme_engines.triton_status import is_answer, is_region_unknown
from mirrorme_engines.triton_tensors import Layout, decode_response, encode_request

_CHANNEL_OPTIONS = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # A node that vanishes without a word is found while a call waits for it.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    # The pool decides when to try again; the channel must not wait longer than it.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.dns_min_time_between_resolutions_ms", 1_000),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),
)
_SWEEP_INTERVAL_S = 30.0
_ABANDONED_S = 30.0
"""How long a call that nobody waits for any more may hold its place."""


@dataclass(frozen=True)
class ReplicaStatus:
    """For people and metrics."""

    address: str
    serving: bool
    num_inflight: int
    num_failures: int
    """Probes and calls that failed since the last call that did not."""
    trouble: str
    """Why it is not serving; empty otherwise."""
    num_regions: int = 0
    """Of memory shared with it; 0: its tensors travel in messages."""


@dataclass(frozen=True)
class AttemptTimes:
    """The times of one attempt of a call."""

    queue_us: int
    """The server drops the call from its queue by itself after that."""
    wait_s: float
    """The caller waits no longer."""

    @classmethod
    def of(cls, queue_s: float, wait_s: float | None = None) -> AttemptTimes:
        """Both the same, unless said otherwise."""
        return cls(max(int(queue_s * 1e6), 1), queue_s if wait_s is None else wait_s)


class TritonReplica:
    """Owns the channel to one server until `close`. Its calls run in the given task group."""

    def __init__(
        self,
        address: str,
        options: TritonOptions,
        tasks: asyncio.TaskGroup,
        folder: Path = SHARED_MEMORY,
    ) -> None:
        self.address = address
        self._options = options
        self._tasks = tasks
        self.serving = False
        self.num_inflight = 0
        self.idle = asyncio.Event()
        """Set while no call is in flight."""
        self.idle.set()
        self.num_failures = 0
        self.trouble: Exception | None = None
        self.doubted: EngineSpec | None = None
        """An engine that failed here. A server with a dead model can still call itself ready."""
        self.last_picked = 0
        self.suspect = asyncio.Event()
        """Set by whoever sees a fault; the pool then probes before it sends further calls."""
        self.probed = asyncio.Event()
        """Set when the first probe has ended, well or not."""
        self.version = ""
        self._channel = grpc.aio.insecure_channel(address, options=_CHANNEL_OPTIONS)
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        self._shared = SharedMemory(self._stub, address, options.shared_memory_bytes, folder)

    def reserve(self) -> None:
        """Counts a call that `infer` is about to make."""
        self.num_inflight += 1
        self.idle.clear()

    async def infer(
        self,
        spec: EngineSpec,
        version: str,
        inputs: Tensors,
        batch_size: int,
        times: AttemptTimes,
    ) -> dict[str, NDArray[np.generic]]:
        """Makes one call, which was reserved; its place is free again when the server is done.

        A caller that gives up leaves the call running: Triton does not stop a model that runs, it
        drops a queued call by the request's own timeout, and Triton 2.51 crashes sooner or later
        when inferences are cancelled.

        Raises:
            grpc.aio.AioRpcError: the server's answer.
            EngineFault: it is not what the spec says.
            TimeoutError: there was none within `times.wait_s`.
        """
        call = self._tasks.create_task(self._call(spec, version, inputs, batch_size, times))
        call.add_done_callback(self._ended)
        done, _ = await asyncio.wait({call}, timeout=times.wait_s)
        if not done:
            raise TimeoutError(f"no answer within {times.wait_s:g} s")
        result = call.result()
        if isinstance(result, Exception):
            raise result
        return result

    async def _call(
        self,
        spec: EngineSpec,
        version: str,
        inputs: Tensors,
        batch_size: int,
        times: AttemptTimes,
    ) -> dict[str, NDArray[np.generic]] | grpc.aio.AioRpcError | EngineFault:
        """Returns what went wrong: raised, it would end the task group, and all other calls."""
        num_bytes = Layout.of(spec, batch_size).num_bytes
        region = None
        if num_bytes >= self._options.shared_memory_min_bytes:
            region = await self._shared.lease(num_bytes)
        try:
            return await self._exchange(spec, version, inputs, batch_size, times, region)
        except grpc.aio.AioRpcError as error:
            if region is None or not is_region_unknown(error):
                return error
        except EngineFault as error:
            return error
        # Another server is there now, at the same address: it takes the call as it takes any.
        self._shared.lost()
        try:
            return await self._exchange(spec, version, inputs, batch_size, times, None)
        except (grpc.aio.AioRpcError, EngineFault) as error:
            return error

    async def _exchange(
        self,
        spec: EngineSpec,
        version: str,
        inputs: Tensors,
        batch_size: int,
        times: AttemptTimes,
        region: Region | None,
    ) -> dict[str, NDArray[np.generic]]:
        """One request and its answer; the region is let go of."""
        answered = False
        try:
            request = encode_request(spec, version, inputs, batch_size, region)
            request.parameters["timeout"].int64_param = times.queue_us
            try:
                timeout_s = times.wait_s + _ABANDONED_S
                response = await self._stub.ModelInfer(
                    request, timeout=timeout_s, metadata=call_metadata()
                )
            except grpc.aio.AioRpcError as error:
                answered = is_answer(error)
                raise
            answered = True
            return decode_response(spec, response, batch_size, region)
        finally:
            if region is not None:
                self._shared.give_back(region) if answered else self._shared.abandon(region)

    def _ended(self, call: asyncio.Task[object]) -> None:
        self.num_inflight -= 1
        if not self.num_inflight:
            self.idle.set()

    async def probe(self, manifest: Manifest, timeout_s: float) -> None:
        """Checks that the server is ready, serves the manifest's engines, and runs the doubted one.

        Raises:
            ManifestError, EngineUnavailable
        """
        self.version = await check_server(self._stub, self.address, manifest, timeout_s)
        await self._shared.register_first()
        if (spec := self.doubted) is None:
            return
        zeros = {t.name: np.zeros((1, *t.dims), t.dtype) for t in spec.inputs}
        self.reserve()
        try:
            await self.infer(spec, model_version(spec), zeros, 1, AttemptTimes.of(timeout_s))
        except grpc.aio.AioRpcError as error:
            raise EngineUnavailable(
                f"Triton at {self.address} cannot run {spec.name}: "
                f"{error.code().name}: {error.details()}"
            ) from error
        self.doubted = None

    async def watch_connection(self) -> None:
        """Sets `suspect` whenever the connection is lost: another server may be there next."""
        while True:
            state = self._channel.get_state()
            await self._channel.wait_for_state_change(state)
            if state is grpc.ChannelConnectivity.READY:
                self.suspect.set()

    async def sweep_shared_memory(self) -> None:
        """Keeps what is registered with the server to what is used."""
        while True:
            await asyncio.sleep(_SWEEP_INTERVAL_S)
            await self._shared.sweep()

    def backoff_s(self) -> float:
        """Before the next probe: none after the first fault, so that a stray one costs nothing."""
        options = self._options
        if self.num_failures < 2:
            return 0.0
        # The exponent is bounded only to keep the power finite.
        doubled = options.first_backoff_s * 2.0 ** min(self.num_failures - 2, 30)
        return min(doubled, options.max_backoff_s)

    def status(self) -> ReplicaStatus:
        """How it stands now."""
        return ReplicaStatus(
            address=self.address,
            serving=self.serving,
            num_inflight=self.num_inflight,
            num_failures=self.num_failures,
            trouble="" if self.serving or self.trouble is None else str(self.trouble),
            num_regions=self._shared.num_regions,
        )

    async def close(self) -> None:
        """Closes the channel; the group's tasks have ended before."""
        await self._shared.close()
        await self._channel.close()
