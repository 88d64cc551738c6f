"""One TensorRT plan on one GPU, ready to run: checked against its spec, with its own memory."""

from __future__ import annotations

import math
import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mirrorme_engines.engine import Tensors
from mirrorme_engines.errors import EngineFault, EngineUnavailable, ManifestError
from mirrorme_engines.manifest import EngineSpec, TensorSpec
from mirrorme_engines.tensorrt_memory import DeviceMemory
from mirrorme_engines.tensorrt_module import tensorrt_log


class TensorRTCompute:
    """Owns an execution context, a stream, and device memory for the largest batch.

    Everything is freed by `abort`, or by the run that it meets.
    """

    def __init__(self, trt: Any, plan: bytes, spec: EngineSpec, memory: DeviceMemory) -> None:
        """Loads a plan.

        Raises:
            ManifestError: it does not load on this GPU, or is of another signature than the spec.
            EngineFault: there is not enough memory.
        """
        self._spec = spec
        self._memory = memory
        self._log = tensorrt_log(trt)
        runtime = trt.Runtime(self._log)
        engine = runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise ManifestError(f"it does not load on this GPU: {self._log.said()}")
        _check_signature(trt, engine, spec)
        # In the order in which they must be freed: TensorRT keeps no count of who needs whom.
        self._kept: list[Any] = [engine, runtime]
        self._context: Any = engine.create_execution_context()
        if self._context is None:
            raise EngineFault(f"{spec.name} gets no execution context: {self._log.said()}")
        self._addresses: dict[str, int] = {}
        self._stream: int | None = None
        self._lock = threading.Lock()
        self._running = self._aborted = False
        try:
            self._stream = memory.open_stream()
            for tensor in (*spec.inputs, *spec.outputs):
                address = memory.allocate(_bytes(spec, tensor))
                self._addresses[tensor.name] = address
                self._context.set_tensor_address(tensor.name, address)
        except EngineFault:
            self._release()
            raise

    def run(self, inputs: Tensors) -> dict[str, NDArray[np.generic]]:
        """See `Compute.run`. A run that has begun on the GPU goes on to its end."""
        with self._lock:
            if self._aborted:
                raise EngineUnavailable(f"{self._spec.name} is closed")
            self._running = True
        try:
            return self._run(inputs)
        finally:
            with self._lock:
                self._running = False
                if self._aborted:
                    self._release()

    def abort(self) -> None:
        """See `Compute.abort`."""
        with self._lock:
            self._aborted = True
            if not self._running:
                self._release()

    def pool_cpu_s(self) -> float:
        """See `Compute.pool_cpu_s`: it has none."""
        return 0.0

    def _run(self, inputs: Tensors) -> dict[str, NDArray[np.generic]]:
        stream = self._stream
        assert stream is not None
        # Held until the stream is done: copies may read them until then.
        arrays = {name: np.ascontiguousarray(array) for name, array in inputs.items()}
        for name, array in arrays.items():
            if not self._context.set_input_shape(name, array.shape):
                raise EngineFault(f"{self._spec.name} failed: {self._log.said()}")
            self._memory.copy_in(self._addresses[name], array, stream)
        if not self._context.execute_async_v3(stream):
            raise EngineFault(f"{self._spec.name} failed: {self._log.said()}")
        num_rows = len(next(iter(arrays.values())))
        outputs: dict[str, NDArray[np.generic]] = {}
        for tensor in self._spec.outputs:
            outputs[tensor.name] = np.empty((num_rows, *tensor.dims), tensor.dtype)
            self._memory.copy_out(outputs[tensor.name], self._addresses[tensor.name], stream)
        self._memory.wait(stream)
        return outputs

    def _release(self) -> None:
        """Frees all that is held. Idempotent."""
        self._context = None
        while self._kept:
            del self._kept[0]
        while self._addresses:
            self._memory.free(self._addresses.popitem()[1])
        if self._stream is not None:
            self._memory.close_stream(self._stream)
            self._stream = None


def _bytes(spec: EngineSpec, tensor: TensorSpec) -> int:
    return spec.max_batch_size * math.prod(tensor.dims) * np.dtype(tensor.dtype).itemsize


def _check_signature(trt: Any, engine: Any, spec: EngineSpec) -> None:
    names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
    for kind, mode, tensors in (
        ("inputs", trt.TensorIOMode.INPUT, spec.inputs),
        ("outputs", trt.TensorIOMode.OUTPUT, spec.outputs),
    ):
        found = sorted(
            _describe(trt, engine, name) for name in names if engine.get_tensor_mode(name) == mode
        )
        want = sorted(
            f"{t.dtype} [{', '.join(map(str, ['B', *t.dims]))}] {t.name}" for t in tensors
        )
        if found != want:
            raise ManifestError(
                f"its {kind} differ from the manifest's {spec.name}: "
                f"the plan has {'; '.join(found)}; the manifest {'; '.join(want)}"
            )
    for tensor in spec.inputs:
        shapes = engine.get_tensor_profile_shape(tensor.name, 0)
        least, _, most = (next(iter(shape)) for shape in shapes)
        if least > 1 or most < spec.max_batch_size:
            raise ManifestError(
                f"it takes batches of {least} to {most}: want 1 to {spec.max_batch_size}"
            )


def _describe(trt: Any, engine: Any, name: str) -> str:
    """The batch axis is dynamic, -1 in TensorRT; any other size shows as it is."""
    dims = [str(dim) for dim in engine.get_tensor_shape(name)]
    if dims[:1] == ["-1"]:
        dims[0] = "B"
    dtype = np.dtype(trt.nptype(engine.get_tensor_dtype(name))).name
    return f"{dtype} [{', '.join(dims)}] {name}"
