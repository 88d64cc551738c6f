"""GPU memory for engines that are given addresses: allocation, copies, one stream's order."""

from __future__ import annotations

import importlib
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mirrorme_engines.errors import EngineFault, EngineUnavailable


class DeviceMemory(Protocol):
    """Memory of one device. Copies and runs of one stream happen in order."""

    def allocate(self, num_bytes: int) -> int:
        """The address of new memory.

        Raises:
            EngineFault: there is not enough.
        """
        ...

    def free(self, address: int) -> None:
        """Gives memory back."""
        ...

    def open_stream(self) -> int:
        """A new stream's handle."""
        ...

    def close_stream(self, stream: int) -> None:
        """Frees a stream that nothing runs on."""
        ...

    def copy_in(self, address: int, array: NDArray[np.generic], stream: int) -> None:
        """Copies a contiguous array to the device; it may be changed after `wait`."""
        ...

    def copy_out(self, array: NDArray[np.generic], address: int, stream: int) -> None:
        """Fills a contiguous array from the device; it may be read after `wait`."""
        ...

    def wait(self, stream: int) -> None:
        """Returns when all of a stream is done.

        Raises:
            EngineFault: something in it failed.
        """
        ...


class CudaMemory:
    """Memory of the first CUDA device, by NVIDIA's own bindings. Releases the GIL in copies.

    Arrays are copied as they are, without page-locked staging of our own: a stream of 512 × 512
    frames is 19 MB/s, a hundredth of what such copies carry.
    """

    def __init__(self) -> None:
        """Raises EngineUnavailable without bindings, driver or device."""
        try:
            self._cuda: Any = importlib.import_module("cuda.bindings.runtime")
        except ImportError as error:
            raise EngineUnavailable(
                f"cuda-bindings is not installed ({error}): pip install 'mirrorme[tensorrt]'"
            ) from error
        try:
            self._call("cudaFree", 0)  # opens the device, or says why it cannot
        except EngineFault as error:
            raise EngineUnavailable(f"no NVIDIA GPU can be used: {error}") from error

    def allocate(self, num_bytes: int) -> int:
        """See `DeviceMemory.allocate`."""
        try:
            return int(self._call("cudaMalloc", num_bytes))
        except EngineFault as error:
            raise EngineFault(f"{num_bytes / 1e6:.0f} MB of GPU memory: {error}") from error

    def free(self, address: int) -> None:
        """See `DeviceMemory.free`."""
        self._call("cudaFree", address)

    def open_stream(self) -> int:
        """See `DeviceMemory.open_stream`."""
        # One that does not wait for the default stream: each engine has its own.
        flags = self._cuda.cudaStreamNonBlocking
        return int(self._call("cudaStreamCreateWithFlags", flags))

    def close_stream(self, stream: int) -> None:
        """See `DeviceMemory.close_stream`."""
        self._call("cudaStreamDestroy", stream)

    def copy_in(self, address: int, array: NDArray[np.generic], stream: int) -> None:
        """See `DeviceMemory.copy_in`."""
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._call("cudaMemcpyAsync", address, array.ctypes.data, array.nbytes, kind, stream)

    def copy_out(self, array: NDArray[np.generic], address: int, stream: int) -> None:
        """See `DeviceMemory.copy_out`."""
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._call("cudaMemcpyAsync", array.ctypes.data, address, array.nbytes, kind, stream)

    def wait(self, stream: int) -> None:
        """See `DeviceMemory.wait`."""
        self._call("cudaStreamSynchronize", stream)

    def _call(self, name: str, *arguments: Any) -> Any:
        """Calls a function of CUDA's; its first result is a status, the second what is asked."""
        status, *results = getattr(self._cuda, name)(*arguments)
        if status != self._cuda.cudaError_t.cudaSuccess:
            raise EngineFault(f"{name} failed: {status.name}")
        return results[0] if results else None
