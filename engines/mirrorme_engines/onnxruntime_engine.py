"""Engines run in this process by ONNX Runtime, on the CPU or on an NVIDIA GPU."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mirrorme_engines.batched_engine import BatchedEngine
from mirrorme_engines.compute import run_joined
from mirrorme_engines.engine import Tensors
from mirrorme_engines.engine_options import Device, EngineOptions
from mirrorme_engines.errors import EngineFault, EngineUnavailable, ManifestError
from mirrorme_engines.manifest import DType, EngineSpec, OnnxFile, TensorSpec, engine_sha256
from mirrorme_engines.observer import EngineObserver
from mirrorme_engines.pool_threads import with_its_threads
from mirrorme_engines.silent_onnxruntime import onnxruntime as ort
from mirrorme_engines.silent_onnxruntime import (
    ort_errors,  # pyright: ignore[reportAttributeAccessIssue] # C++
)
from mirrorme_engines.thread_priority import give_way

_SPIN_US = "50"

_DTYPES: dict[str, DType] = {
    "tensor(uint8)": "uint8",
    "tensor(int64)": "int64",
    "tensor(float)": "float32",
}
# ONNX Runtime's errors have no common base but Exception.
_ORT_ERRORS = (
    ort_errors.EPFail,
    ort_errors.Fail,
    ort_errors.InvalidArgument,
    ort_errors.InvalidGraph,
    ort_errors.InvalidProtobuf,
    ort_errors.NoModel,
    ort_errors.NoSuchFile,
    ort_errors.NotImplemented,
    ort_errors.RuntimeException,
    RuntimeError,
    MemoryError,
)


def platform_name(device: Device) -> str:
    """For people, for example `onnxruntime 1.32.0 CPU`."""
    return f"onnxruntime {ort.__version__} {device.upper()}"


def open_onnxruntime_engine(
    folder: Path, spec: EngineSpec, options: EngineOptions, observer: EngineObserver | None = None
) -> BatchedEngine:
    """Loads an engine; blocks for as long as that takes.

    Raises:
        ManifestError: the file is missing, or not what the manifest says.
        EngineUnavailable: the device is not there.
        EngineFault: the warm-up failed.
    """
    compute = OnnxRuntimeCompute(folder, spec, options)
    if options.warm_up:
        run_joined(spec, compute, [_zeros(spec)], [1])
    # On a GPU it only hands out work.
    enter_thread = give_way if options.device == "cpu" else None
    return BatchedEngine(spec, compute, options.batch, observer, enter_thread)


class OnnxRuntimeCompute:
    """Owns one inference session with its own thread pool."""

    def __init__(self, folder: Path, spec: EngineSpec, options: EngineOptions) -> None:
        onnx = spec.onnx_file(on_cpu=options.device == "cpu")
        path = folder / onnx.file
        _check_file(path, onnx)
        self._spec = spec
        self._output_names = [tensor.name for tensor in spec.outputs]
        self._session, self._pool = with_its_threads(lambda: _open_session(path, spec, options))
        self._pool.give_way()
        _check_signature(path, spec, self._session)
        self._lock = threading.Lock()
        self._run_options: ort.RunOptions | None = None
        self._aborted = False

    def run(self, inputs: Tensors) -> dict[str, NDArray[np.generic]]:
        """See `Compute.run`. Releases the GIL."""
        run_options = ort.RunOptions()
        run_options.log_severity_level = 4  # errors are raised; they need not be printed too
        with self._lock:
            if self._aborted:
                raise EngineUnavailable(f"{self._spec.name} is closed")
            self._run_options = run_options
        feed = {name: np.ascontiguousarray(array) for name, array in inputs.items()}
        try:
            results = self._session.run(self._output_names, feed, run_options)
        except _ORT_ERRORS as error:
            if self._aborted:
                raise EngineUnavailable(f"{self._spec.name} was closed during the call") from error
            raise EngineFault(f"{self._spec.name} failed: {error}") from error
        return {
            name: np.asarray(array) for name, array in zip(self._output_names, results, strict=True)
        }

    def abort(self) -> None:
        """See `Compute.abort`."""
        with self._lock:
            self._aborted = True
            if self._run_options is not None:
                self._run_options.terminate = True

    def pool_cpu_s(self) -> float:
        """See `Compute.pool_cpu_s`."""
        return self._pool.cpu_s()


def _check_file(path: Path, onnx: OnnxFile) -> None:
    try:
        found = engine_sha256(path)
    except OSError as error:
        raise ManifestError(f"{path} cannot be read: {error.strerror}") from error
    if found != onnx.sha256:
        raise ManifestError(
            f"{path} is not the file that the manifest describes: its sha256 is {found}, the "
            f"manifest's {onnx.sha256}; run `make export` again"
        )


def _open_session(path: Path, spec: EngineSpec, options: EngineOptions) -> ort.InferenceSession:
    settings = ort.SessionOptions()
    settings.intra_op_num_threads = spec.threads_on_cpu(options.num_threads)
    settings.inter_op_num_threads = 1
    settings.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    settings.use_deterministic_compute = True
    settings.log_severity_level = 3
    # From one operator to the next; longer, a thread takes the core that another engine or the
    # encoder needs.
    settings.add_session_config_entry("session.intra_op.allow_spinning", "1")
    settings.add_session_config_entry("session.intra_op.spin_duration_us", _SPIN_US)
    settings.add_session_config_entry("session.inter_op.allow_spinning", "0")
    try:
        session = ort.InferenceSession(path, settings, providers=_providers(options.device))
    except _ORT_ERRORS as error:
        raise ManifestError(f"{path} cannot be loaded as engine {spec.name}: {error}") from error
    # ONNX Runtime falls back to the CPU with no more than a log line.
    if options.device == "cuda" and session.get_providers()[0] != "CUDAExecutionProvider":
        raise EngineUnavailable(f"{spec.name}: ONNX Runtime could not open the CUDA device")
    return session


def _providers(device: Device) -> list[str | tuple[str, dict[str, str]]]:
    if device == "cpu":
        return ["CPUExecutionProvider"]
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        raise EngineUnavailable(
            "device cuda was asked for, but this ONNX Runtime has no CUDA: "
            "install mirrorme[gpu] and uninstall onnxruntime"
        )
    cuda = {"device_id": "0", "use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}
    return [("CUDAExecutionProvider", cuda), "CPUExecutionProvider"]


def _check_signature(path: Path, spec: EngineSpec, session: ort.InferenceSession) -> None:
    for kind, nodes, tensors in (
        ("inputs", session.get_inputs(), spec.inputs),
        ("outputs", session.get_outputs(), spec.outputs),
    ):
        found = sorted(_describe(node.type, list(node.shape)) + f" {node.name}" for node in nodes)
        want = sorted(_want(tensor) for tensor in tensors)
        if found != want:
            raise ManifestError(
                f"{path}: {kind} of the file differ from the manifest's {spec.name}: "
                f"the file has {'; '.join(found)}; the manifest {'; '.join(want)}"
            )


def _describe(onnx_type: str, shape: list[int | str | None]) -> str:
    """The batch axis must be dynamic, all others fixed: anything else shows as it is."""
    batch = "B" if shape and not isinstance(shape[0], int) else str(shape[0] if shape else "")
    return f"{_DTYPES.get(onnx_type, onnx_type)} [{', '.join([batch, *map(str, shape[1:])])}]"


def _want(tensor: TensorSpec) -> str:
    return f"{tensor.dtype} [{', '.join(['B', *map(str, tensor.dims)])}] {tensor.name}"


def _zeros(spec: EngineSpec) -> Tensors:
    return {tensor.name: np.zeros((1, *tensor.dims), tensor.dtype) for tensor in spec.inputs}
