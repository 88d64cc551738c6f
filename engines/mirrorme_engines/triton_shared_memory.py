"""The regions of shared memory that are registered with one Triton server, and who uses them.

A region holds the tensors of one call. It is used again only after the server has answered: a call
that ended without an answer may still be running there, and its region is let go with it. What
no call uses is registered no longer than need be: the server keeps the memory until then.
"""

# Triton's generated messages have no type stubs.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from mirrorme_engines.triton_region import SHARED_MEMORY, Region, is_ours
from mirrorme_engines.triton_status import is_answer

logger = logging.getLogger(__name__)
_SMALLEST_BYTES = 1 << 16
_RPC_TIMEOUT_S = 1.0
_UNREGISTER_TIMEOUT_S = 3.0
"""No call waits for it."""


class SharedMemory:
    """Owns the regions until `close`. Unusable until `register_first` has found it usable."""

    def __init__(
        self,
        stub: service_pb2_grpc.GRPCInferenceServiceStub,
        address: str,
        limit_bytes: int,
        folder: Path = SHARED_MEMORY,
    ) -> None:
        self._stub = stub
        self._address = address
        self._limit_bytes = limit_bytes
        self._folder = folder
        self._free: list[Region] = []
        self._used: set[Region] = set()
        self._unused: set[str] = set()
        """Names that may be registered though no call uses them."""
        self._gone: set[str] = set()
        """Registered names without a file, at the last sweep."""
        self._said = ""
        self._lost = False
        self.usable = False

    @property
    def num_regions(self) -> int:
        """Of the present server."""
        return len(self._free) + len(self._used)

    async def register_first(self) -> None:
        """Finds out whether a server, perhaps a new one, can open memory of this machine."""
        self._forget()
        self._lost = False
        if not self._limit_bytes:
            return
        region = await self._registered(_SMALLEST_BYTES)
        self.usable = region is not None
        if region is not None:
            self._say(f"Triton at {self._address}: tensors go through shared memory")
            self._free.append(region)

    async def lease(self, num_bytes: int) -> Region | None:
        """A region for one call, or None: the call's tensors must travel in its messages.

        `give_back` or `abandon` must follow.
        """
        if not self.usable:
            return None
        size_bytes = max(1 << (num_bytes - 1).bit_length(), _SMALLEST_BYTES)
        for region in self._free:
            if region.size_bytes == size_bytes:
                self._free.remove(region)
                self._used.add(region)
                return region
        held_bytes = sum(region.size_bytes for region in (*self._free, *self._used))
        if held_bytes + size_bytes > self._limit_bytes:
            return None
        region = await self._registered(size_bytes)
        if region is not None:
            self._used.add(region)
        return region

    def give_back(self, region: Region) -> None:
        """The server has answered the call."""
        if region in self._used:
            self._used.discard(region)
            self._free.append(region)
        else:
            # Registered with a server that is no more, or was found well again meanwhile.
            self._let_go(region)

    def abandon(self, region: Region) -> None:
        """The server may still use it: the sweep ends its registration later."""
        self._used.discard(region)
        region.close()

    def lost(self) -> None:
        """The server does not know its regions any more: the next sweep or probe makes new ones."""
        self._forget()
        self._lost = True

    async def sweep(self) -> None:
        """Ends registrations without a file for two sweeps: abandoned ones, and of dead gateways.

        Two, since Triton 2.51 must not lose a region that a run still uses.
        """
        if self._lost:
            await self.register_first()
        if not self.usable:
            return
        await self._end_unused()
        try:
            status = await self._stub.SystemSharedMemoryStatus(
                service_pb2.SystemSharedMemoryStatusRequest(), timeout=_RPC_TIMEOUT_S
            )
            gone = {
                name
                for name in status.regions
                if is_ours(name) and not (self._folder / name).exists()
            }
            for name in gone & self._gone:
                await self._unregister(name)
            self._gone = gone - self._gone
        except grpc.aio.AioRpcError as error:
            logger.debug("Triton at %s: sweep: %s", self._address, error.details())

    async def close(self) -> None:
        """Ends the registrations of regions that no call uses, and removes all regions."""
        self._forget()
        await self._end_unused()

    def _forget(self) -> None:
        self.usable = False
        for region in self._free:
            self._let_go(region)
        self._free.clear()
        # Their calls still read from them, and let them go at their end.
        self._used.clear()

    def _let_go(self, region: Region) -> None:
        """No call uses it any more."""
        self._unused.add(region.name)
        region.close()

    async def _registered(self, size_bytes: int) -> Region | None:
        try:
            region = Region(size_bytes, self._folder)
        except OSError as error:
            self._say(f"{self._folder}: {size_bytes} bytes of shared memory: {error.strerror}")
            return None
        request = service_pb2.SystemSharedMemoryRegisterRequest(
            name=region.name, key=region.key, byte_size=size_bytes
        )
        try:
            await self._stub.SystemSharedMemoryRegister(request, timeout=_RPC_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            self._let_go(region)
            why = f"{error.code().name}: {error.details()}"
            self._say(f"Triton at {self._address}: tensors travel in messages: {why}")
            return None
        except BaseException:
            self._let_go(region)
            raise
        return region

    async def _end_unused(self) -> None:
        """What is not answered is tried again with the next sweep."""
        names = list(self._unused)
        results = await asyncio.gather(*map(self._unregister, names), return_exceptions=True)
        for name, result in zip(names, results, strict=True):
            if not isinstance(result, grpc.aio.AioRpcError) or is_answer(result):
                self._unused.discard(name)

    async def _unregister(self, name: str) -> None:
        request = service_pb2.SystemSharedMemoryUnregisterRequest(name=name)
        await self._stub.SystemSharedMemoryUnregister(request, timeout=_UNREGISTER_TIMEOUT_S)

    def _say(self, text: str) -> None:
        if text != self._said:
            logger.info("%s", text)
        self._said = text
