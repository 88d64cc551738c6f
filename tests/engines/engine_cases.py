"""One case for each Engine implementation: how to open it, feed it, slow it and make it fail."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from mirrorme_engines.batched_engine import BatchedEngine
from mirrorme_engines.batcher import BatchOptions
from mirrorme_engines.compute import Compute
from mirrorme_engines.engine import Engine, Tensors
from mirrorme_engines.engine_options import EngineOptions
from mirrorme_engines.errors import EngineUnavailable
from mirrorme_engines.fake_engine import FakeEngine
from mirrorme_engines.fake_manifest import fake_manifest
from mirrorme_engines.manifest import EngineSpec
from mirrorme_engines.observer import EngineObserver
from mirrorme_engines.onnxruntime_engine import OnnxRuntimeCompute
from mirrorme_engines.tensorrt_compute import TensorRTCompute

from tests.engines.fake_tensorrt import HostMemory, fake_tensorrt
from tests.engines.onnx_models import WIDTH, save_tiny_model, tiny_spec


class EngineCase(Protocol):
    engine: Engine
    batch_sizes: list[int]
    """Of the runs begun."""

    def good(self, seed: int, num_rows: int = 1) -> dict[str, np.ndarray]: ...

    def faulty(self) -> Tensors:
        """Makes any run that it is part of fail."""
        ...

    def nan(self) -> Tensors: ...

    def hold(self) -> None: ...

    def release(self) -> None: ...


class FakeCase:
    FAULT, NAN = 7777.0, 8888.0

    def __init__(self, options: BatchOptions, observer: EngineObserver) -> None:
        manifest = fake_manifest()
        self.engine = FakeEngine(manifest, manifest.engine("audio_encoder"), options, observer)
        self.faults = self.engine.faults
        self.batch_sizes = self.faults.batch_sizes
        self.faults.fail_when(lambda inputs: bool((inputs["pcm"] == self.FAULT).any()))
        self.faults.nan_when(lambda inputs: bool((inputs["pcm"] == self.NAN).any()))
        self.hold, self.release = self.faults.hold, self.faults.release

    def good(self, seed: int, num_rows: int = 1) -> dict[str, np.ndarray]:
        (dim,) = self.engine.spec.inputs[0].dims
        pcm = np.random.default_rng(seed).uniform(-1, 1, (num_rows, dim)).astype(np.float32)
        return {"pcm": pcm, "phase": np.full(num_rows, seed % 3)}

    def faulty(self) -> Tensors:
        return self._filled(self.FAULT)

    def nan(self) -> Tensors:
        return self._filled(self.NAN)

    def _filled(self, value: float) -> Tensors:
        inputs = self.good(0)
        inputs["pcm"][:] = value
        return inputs


@dataclass
class GatedCompute:
    inner: Compute
    batch_sizes: list[int]
    gate: threading.Event
    aborted: bool = False

    def run(self, inputs: Tensors) -> dict[str, np.ndarray]:
        self.batch_sizes.append(len(next(iter(inputs.values()))))
        self.gate.wait()
        if self.aborted:
            raise EngineUnavailable("closed")
        return self.inner.run(inputs)

    def abort(self) -> None:
        self.aborted = True
        self.inner.abort()
        self.gate.set()

    def pool_cpu_s(self) -> float:
        return self.inner.pool_cpu_s()


class TinyInputs:
    """Of the tiny model: good ones, and those that it fails on."""

    def good(self, seed: int, num_rows: int = 1) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(seed)
        return {
            "x": rng.uniform(0, 1, (num_rows, WIDTH)).astype(np.float32),
            "i": rng.integers(0, WIDTH, (num_rows, 1)),
        }

    def faulty(self) -> Tensors:
        return {**self.good(0), "i": np.array([[WIDTH + 1]])}

    def nan(self) -> Tensors:
        return {**self.good(0), "x": np.full((1, WIDTH), -1, np.float32)}


class TinyCase(TinyInputs):
    """The tiny model behind any compute."""

    def __init__(
        self, spec: EngineSpec, compute: Compute, options: BatchOptions, observer: EngineObserver
    ) -> None:
        gate = threading.Event()
        gate.set()
        self.batch_sizes: list[int] = []
        gated = GatedCompute(compute, self.batch_sizes, gate)
        self.engine = BatchedEngine(spec, gated, options, observer)
        self.hold, self.release = gate.clear, gate.set


class OnnxRuntimeCase(TinyCase):
    def __init__(self, options: BatchOptions, observer: EngineObserver, folder: Path) -> None:
        spec = tiny_spec(save_tiny_model(folder))
        compute = OnnxRuntimeCompute(folder, spec, EngineOptions())
        super().__init__(spec, compute, options, observer)


class FakeTensorRTCase(TinyCase):
    """Real code around a TensorRT and a memory that are not."""

    def __init__(self, options: BatchOptions, observer: EngineObserver, folder: Path) -> None:
        path = save_tiny_model(folder)
        spec = tiny_spec(path)
        compute = TensorRTCompute(fake_tensorrt(spec, path), b"plan", spec, HostMemory())
        super().__init__(spec, compute, options, observer)
