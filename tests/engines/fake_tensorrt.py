"""TensorRT and a GPU's memory without either: addresses are of the host, ONNX Runtime computes.

What `TensorRTCompute` does around them is real: addresses, shapes, order, errors, release.
"""

from __future__ import annotations

import ctypes
import enum
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime as ort
from mirrorme_engines.errors import EngineFault
from mirrorme_engines.manifest import EngineSpec


class HostMemory:
    """A `DeviceMemory` whose copies are made when the stream is waited for, as a GPU's may be."""

    def __init__(self, limit_bytes: int = 1 << 30) -> None:
        self.limit_bytes = limit_bytes
        self.blocks: dict[int, Any] = {}
        self.streams: set[int] = set()
        self.fails = False
        self._late: list[tuple[int, int, int]] = []

    def allocate(self, num_bytes: int) -> int:
        if sum(map(len, self.blocks.values())) + num_bytes > self.limit_bytes:
            raise EngineFault(f"{num_bytes / 1e6:.0f} MB of GPU memory: cudaErrorMemoryAllocation")
        block = (ctypes.c_char * num_bytes)()
        self.blocks[ctypes.addressof(block)] = block
        return ctypes.addressof(block)

    def free(self, address: int) -> None:
        del self.blocks[address]

    def open_stream(self) -> int:
        self.streams.add(len(self.streams) + 1)
        return len(self.streams)

    def close_stream(self, stream: int) -> None:
        self.streams.remove(stream)

    def copy_in(self, address: int, array: np.ndarray, stream: int) -> None:
        assert array.flags.c_contiguous and array.nbytes <= len(self.blocks[address])
        ctypes.memmove(address, array.ctypes.data, array.nbytes)

    def copy_out(self, array: np.ndarray, address: int, stream: int) -> None:
        assert array.flags.c_contiguous and array.nbytes <= len(self.blocks[address])
        array.fill(77)
        self._late.append((array.ctypes.data, address, array.nbytes))

    def wait(self, stream: int) -> None:
        assert stream in self.streams
        for target, address, num_bytes in self._late:
            ctypes.memmove(target, address, num_bytes)
        self._late.clear()
        if self.fails:
            raise EngineFault("cudaStreamSynchronize failed: cudaErrorIllegalAddress")


class Severity(enum.IntEnum):
    ERROR = 1
    WARNING = 2


class FakeLogger:
    ERROR, WARNING = Severity.ERROR, Severity.WARNING


class IOMode(enum.Enum):
    INPUT = enum.auto()
    OUTPUT = enum.auto()


@dataclass
class FakeEngine:
    """An `ICudaEngine` and its `IExecutionContext` in one."""

    spec: EngineSpec
    onnx: Path
    log: Any
    max_batch_size: int
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    addresses: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.tensors = [*self.spec.inputs, *self.spec.outputs]
        self.session = ort.InferenceSession(self.onnx, providers=["CPUExecutionProvider"])

    @property
    def num_io_tensors(self) -> int:
        return len(self.tensors)

    def get_tensor_name(self, index: int) -> str:
        return self.tensors[index].name

    def get_tensor_mode(self, name: str) -> IOMode:
        inputs = {tensor.name for tensor in self.spec.inputs}
        return IOMode.INPUT if name in inputs else IOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> str:
        return next(t.dtype for t in self.tensors if t.name == name)

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (-1, *next(t.dims for t in self.tensors if t.name == name))

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[tuple[int, ...]]:
        dims = self.get_tensor_shape(name)[1:]
        return [(size, *dims) for size in (1, 2, self.max_batch_size)]

    def create_execution_context(self) -> FakeEngine:
        return self

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.shapes[name] = shape
        return shape[0] <= self.max_batch_size

    def execute_async_v3(self, stream: int) -> bool:
        feed = {}
        for tensor in self.spec.inputs:
            shape = self.shapes[tensor.name]
            count = int(np.prod(shape)) * np.dtype(tensor.dtype).itemsize
            block = ctypes.string_at(self.addresses[tensor.name], count)
            feed[tensor.name] = np.frombuffer(block, tensor.dtype).reshape(shape)
        try:
            results = self.session.run([t.name for t in self.spec.outputs], feed)
        except Exception as error:  # noqa: BLE001 - as TensorRT: told in the log, never raised
            self.log.log(Severity.ERROR, str(error))
            return False
        for tensor, result in zip(self.spec.outputs, results, strict=True):
            array = np.ascontiguousarray(result)
            ctypes.memmove(self.addresses[tensor.name], array.ctypes.data, array.nbytes)
        return True


def fake_tensorrt(spec: EngineSpec, onnx: Path, *, max_batch_size: int = 8) -> Any:
    """A module with as much of TensorRT as serving takes. The plan `b"plan"` loads."""

    class Runtime:
        def __init__(self, log: Any) -> None:
            self.log = log

        def deserialize_cuda_engine(self, plan: bytes) -> FakeEngine | None:
            if plan != b"plan":
                self.log.log(Severity.ERROR, "Serialization assertion magicTag failed")
                return None
            return FakeEngine(spec, onnx, self.log, max_batch_size)

    return SimpleNamespace(
        __version__="1.7", ILogger=FakeLogger, Runtime=Runtime, TensorIOMode=IOMode, nptype=np.dtype
    )
