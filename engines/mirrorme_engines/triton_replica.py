"""One Triton server as its client sees it: a channel, its load, and whether it may have calls."""

# Triton's generated messages have no type stubs.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import grpc
import numpy as np
from tritonclient.grpc import service_pb2, service_pb2_grpc

from mirrorme_engines.errors import EngineUnavailable
from mirrorme_engines.manifest import EngineSpec, Manifest
from mirrorme_engines.triton_model_check import check_server, model_version
from mirrorme_engines.triton_options import TritonOptions
from mirrorme_engines.triton_tensors import encode_request

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


class TritonReplica:
    """Owns the channel to one server until `close`. Its calls run in the given task group."""

    def __init__(self, address: str, tasks: asyncio.TaskGroup) -> None:
        self.address = address
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

    def reserve(self) -> None:
        """Counts a call that `infer` is about to make."""
        self.num_inflight += 1
        self.idle.clear()

    async def infer(
        self, request: service_pb2.ModelInferRequest, timeout_s: float
    ) -> service_pb2.ModelInferResponse:
        """Makes one call, which was reserved; its place is free again when the server is done.

        A caller that gives up leaves the call running: Triton does not stop a model that runs, it
        drops a queued call by the request's own timeout, and Triton 2.51 crashes sooner or later
        when inferences are cancelled.

        Raises:
            grpc.aio.AioRpcError: the server's answer.
            TimeoutError: there was none within `timeout_s`.
        """
        call = self._tasks.create_task(self._call(request, timeout_s + _ABANDONED_S))
        call.add_done_callback(self._ended)
        done, _ = await asyncio.wait({call}, timeout=timeout_s)
        if not done:
            raise TimeoutError(f"no answer within {timeout_s:g} s")
        result = call.result()
        if isinstance(result, grpc.aio.AioRpcError):
            raise result
        return result

    async def _call(
        self, request: service_pb2.ModelInferRequest, timeout_s: float
    ) -> service_pb2.ModelInferResponse | grpc.aio.AioRpcError:
        try:
            return await self._stub.ModelInfer(request, timeout=timeout_s)
        except grpc.aio.AioRpcError as error:
            # Raised, it would end the task group, and with it all other calls.
            return error

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
        if (spec := self.doubted) is None:
            return
        zeros = {t.name: np.zeros((1, *t.dims), t.dtype) for t in spec.inputs}
        request = encode_request(spec, model_version(spec), zeros, 1)
        request.parameters["timeout"].int64_param = int(timeout_s * 1e6)
        self.reserve()
        try:
            await self.infer(request, timeout_s)
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

    def backoff_s(self, options: TritonOptions) -> float:
        """Before the next probe: none after the first fault, so that a stray one costs nothing."""
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
        )

    async def close(self) -> None:
        """Closes the channel; the group's tasks have ended before."""
        await self._channel.close()
