"""The Triton servers of one set of engines: which there are, which are well, which gets a call.

A server gets calls only after a probe has found it ready and serving the manifest's engines. A
failed call or a lost connection takes it out until it has passed a probe again.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from mirrorme_engines.errors import (
    EngineError,
    EngineOverloaded,
    EngineUnavailable,
    ManifestError,
)
from mirrorme_engines.manifest import EngineSpec, Manifest
from mirrorme_engines.observer import EngineObserver, SilentObserver
from mirrorme_engines.triton_endpoints import Endpoint, Resolve, resolve_addresses
from mirrorme_engines.triton_options import TritonOptions
from mirrorme_engines.triton_region import SHARED_MEMORY, remove_orphans
from mirrorme_engines.triton_replica import ReplicaStatus, TritonReplica

logger = logging.getLogger(__name__)
_DRAIN_S = 1.0
"""How long `close` waits for calls that nobody waits for."""


class TritonPool:
    """Owns the channels and the tasks that watch them. Open once, close once."""

    def __init__(
        self,
        manifest: Manifest,
        options: TritonOptions,
        resolve: Resolve = resolve_addresses,
        shared_memory: Path = SHARED_MEMORY,
        observer: EngineObserver | None = None,
    ) -> None:
        self._manifest = manifest
        self._shared_memory = shared_memory
        self._options = options
        self._observer = observer or SilentObserver()
        self._resolve = resolve
        self._endpoints = [Endpoint.parse(text) for text in options.endpoints]
        self._replicas: dict[str, TritonReplica] = {}
        self._guards: dict[str, asyncio.Task[None]] = {}
        self._waiters: set[asyncio.Future[None]] = set()
        self._num_picks = 0
        self._num_users = 0
        self._runner: asyncio.Task[None] | None = None

    @property
    def num_waiting(self) -> int:
        """Calls that wait for a server to come back."""
        return len(self._waiters)

    @property
    def num_serving(self) -> int:
        """Servers that may be given calls now."""
        return sum(replica.serving for replica in self._replicas.values())

    @property
    def version(self) -> str:
        """Triton's version, of a server that serves."""
        return next((r.version for r in self._replicas.values() if r.serving), "")

    def statuses(self) -> list[ReplicaStatus]:
        """How every server stands."""
        return [replica.status() for replica in self._replicas.values()]

    async def open(self) -> None:
        """Finds the servers; returns when one serves and the others have been tried.

        Raises:
            ManifestError: a server serves other engines.
            EngineUnavailable: no server came within `start_timeout_s`.
        """
        if removed := remove_orphans(self._shared_memory):
            logger.info("removed %d regions of gateways that died", len(removed))
        self._runner = asyncio.create_task(self._run(), name="triton-pool")
        try:
            async with asyncio.timeout(self._options.start_timeout_s):
                await self._wait_for_servers()
        except TimeoutError as error:
            await self.close()
            raise EngineUnavailable(
                f"no Triton server within {self._options.start_timeout_s:g} s: "
                + (self._troubles() or f"no address of {', '.join(self._options.endpoints)}")
            ) from error
        except BaseException:
            await self.close()
            raise

    async def acquire(self, avoid: set[TritonReplica]) -> TritonReplica:
        """The least loaded server, rather none of `avoid`; `replica.infer` must follow at once.

        Waits while no server serves; the caller bounds the time.

        Raises:
            EngineOverloaded: every server has all the calls that it may have.
        """
        while True:
            serving = [replica for replica in self._replicas.values() if replica.serving]
            limit = self._options.max_inflight_calls
            free = [replica for replica in serving if replica.num_inflight < limit]
            if free:
                return self._take(free, avoid)
            if serving:
                raise EngineOverloaded(
                    f"all {len(serving)} Triton servers have {limit} calls in flight"
                )
            await self._wait_for_change()

    def has_other(self, tried: set[TritonReplica]) -> bool:
        """Whether a server serves that is not among `tried`."""
        return any(r.serving and r not in tried for r in self._replicas.values())

    def succeeded(self, replica: TritonReplica) -> None:
        """A call went well."""
        replica.num_failures = 0

    def failed(self, replica: TritonReplica, error: Exception, spec: EngineSpec) -> None:
        """A call failed by the server's fault: no more calls until a probe went well."""
        if replica.serving:
            logger.warning("Triton at %s is taken out: %s", replica.address, error)
            replica.num_failures += 1
        replica.trouble = error
        replica.doubted = spec
        replica.serving = False
        replica.suspect.set()

    def join(self) -> None:
        """One more engine uses the pool."""
        self._num_users += 1

    async def leave(self) -> None:
        """One engine less; the last one closes the pool."""
        self._num_users -= 1
        if self._num_users == 0:
            await self.close()

    async def close(self) -> None:
        """Ends all tasks and closes all channels. Idempotent."""
        if self._runner is None:
            return
        runner, self._runner = self._runner, None
        idle = [asyncio.ensure_future(r.idle.wait()) for r in self._replicas.values()]
        if idle:
            # What was given up by its caller is let finish, rather than cancelled on the server.
            _, pending = await asyncio.wait(idle, timeout=_DRAIN_S)
            for future in pending:
                future.cancel()
        runner.cancel()
        await asyncio.wait([runner])
        if not runner.cancelled():
            runner.result()

    def _take(self, free: list[TritonReplica], avoid: set[TritonReplica]) -> TritonReplica:
        def cost(replica: TritonReplica) -> tuple[bool, int, int]:
            return replica in avoid, replica.num_inflight, replica.last_picked

        replica = min(free, key=cost)
        self._num_picks += 1
        replica.last_picked = self._num_picks
        replica.reserve()
        return replica

    async def _wait_for_change(self) -> None:
        if self._runner is None or self._runner.done():
            raise EngineUnavailable("the connections to Triton are closed")
        if len(self._waiters) >= self._options.max_waiting_calls:
            raise EngineOverloaded(
                f"no Triton server serves, and {len(self._waiters)} calls wait already: "
                + self._troubles()
            )
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            await waiter
        finally:
            self._waiters.discard(waiter)

    def _wake(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def _wait_for_servers(self) -> None:
        while True:
            replicas = list(self._replicas.values())
            for replica in replicas:
                await replica.probed.wait()
                if isinstance(replica.trouble, ManifestError):
                    raise replica.trouble
            if any(replica.serving for replica in replicas):
                return
            await asyncio.sleep(0.02)

    def _troubles(self) -> str:
        return "; ".join(s.trouble or f"{s.address}: no answer" for s in self.statuses())

    async def _run(self) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                while True:
                    await self._update_replicas(tasks)
                    await asyncio.sleep(self._options.resolve_interval_s if self._replicas else 0.2)
        finally:
            self._wake()

    async def _update_replicas(self, tasks: asyncio.TaskGroup) -> None:
        """Makes the replicas those that the endpoints stand for now."""
        wanted: dict[str, None] = {}
        for endpoint in self._endpoints:
            try:
                wanted.update(dict.fromkeys(await endpoint.addresses(self._resolve)))
            except OSError as error:
                # A name server's fault must not take servers out that are well.
                logger.warning("%s cannot be resolved: %s", endpoint.host, error)
                return
        for address in [address for address in wanted if address not in self._guards]:
            self._guards[address] = tasks.create_task(self._serve(address, tasks))
        for address in [address for address in self._guards if address not in wanted]:
            self._guards.pop(address).cancel()

    async def _serve(self, address: str, calls: asyncio.TaskGroup) -> None:
        """One server's life in the pool, until its address is gone; its calls may last longer."""
        replica = self._replicas[address] = TritonReplica(
            address, self._options, calls, self._shared_memory
        )
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(replica.watch_connection())
                tasks.create_task(replica.sweep_shared_memory())
                tasks.create_task(self._guard(replica))
        finally:
            replica.serving = False
            self._observer.server_gone(address)
            await self._drain(replica)

    async def _drain(self, replica: TritonReplica) -> None:
        """Lets the calls of a server that left its name end, unless the pool itself ends."""
        try:
            if self._runner is not None:
                await replica.idle.wait()
        finally:
            if self._replicas.get(replica.address) is replica:
                del self._replicas[replica.address]
            await replica.close()

    async def _guard(self, replica: TritonReplica) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._admit(replica)
            since = loop.time()
            await replica.suspect.wait()
            replica.serving = False
            self._observer.server_ejected(replica.address)
            if loop.time() - since > self._options.max_backoff_s:
                replica.num_failures = 1

    async def _admit(self, replica: TritonReplica) -> None:
        """Probes until the server is found well."""
        timeout_s = self._options.probe_timeout_s
        while True:
            await asyncio.sleep(replica.backoff_s())
            replica.suspect.clear()
            try:
                async with asyncio.timeout(timeout_s):
                    await replica.probe(self._manifest, timeout_s)
            except (EngineError, TimeoutError) as error:
                self._probe_failed(replica, error)
            else:
                replica.trouble = None
                replica.serving = True
                self._observer.server_admitted(replica.address)
                logger.info("Triton %s at %s serves", replica.version, replica.address)
                self._wake()
                return
            finally:
                replica.probed.set()

    def _probe_failed(self, replica: TritonReplica, error: Exception) -> None:
        if isinstance(error, TimeoutError):
            error = EngineUnavailable(f"Triton at {replica.address} does not answer")
        replica.num_failures += 1
        if str(replica.trouble) != str(error):
            logger.warning("%s", error)
        replica.trouble = error
