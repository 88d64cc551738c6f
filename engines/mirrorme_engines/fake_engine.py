"""Numpy engines for tests and load tests: cheap, deterministic, and their pixels tell their inputs.

They draw no person. `fake_compute.py` says what they draw, `fake_manifest.py` makes a preset.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mirrorme_engines.batched_engine import BatchedEngine
from mirrorme_engines.batcher import BatchOptions
from mirrorme_engines.engine import EngineSet, Tensors
from mirrorme_engines.errors import EngineFault, EngineUnavailable
from mirrorme_engines.fake_compute import fake_outputs
from mirrorme_engines.fake_manifest import fake_manifest
from mirrorme_engines.manifest import EngineSpec, Manifest
from mirrorme_engines.observer import EngineObserver

Predicate = Callable[[Tensors], bool]


class FakeFaults:
    """What a test makes its fake engine do, and what the engine was asked. Threadsafe."""

    def __init__(self) -> None:
        self.batch_sizes: list[int] = []
        """Of each run begun."""
        self._gate = threading.Event()
        self._gate.set()
        self._delay_s = 0.0
        self._is_gone: Predicate = _never
        self._fails: Predicate = _never
        self._gives_nan: Predicate = _never

    def hold(self) -> None:
        """Makes runs wait, once begun, until `release`: a slow engine, or a hanging one."""
        self._gate.clear()

    def release(self) -> None:
        """Lets held runs go on."""
        self._gate.set()

    def delay(self, seconds: float) -> None:
        """Makes each run take at least so long."""
        self._delay_s = seconds

    def fail_when(self, predicate: Predicate) -> None:
        """Makes runs fail whose (joined) inputs the predicate picks."""
        self._fails = predicate

    def fail_next(self, num_runs: int = 1) -> None:
        """Makes the next runs fail."""
        self._fails = _next_runs(num_runs)

    def nan_when(self, predicate: Predicate) -> None:
        """Makes runs give NaN whose (joined) inputs the predicate picks."""
        self._gives_nan = predicate

    def nan_next(self, num_runs: int = 1) -> None:
        """Makes the next runs give NaN; of no effect on engines without float outputs."""
        self._gives_nan = _next_runs(num_runs)

    def gone_next(self, num_runs: int = 1) -> None:
        """Makes the next runs fail as those of an engine out of reach, which may be tried again."""
        self._is_gone = _next_runs(num_runs)

    def apply(self, spec: EngineSpec, inputs: Tensors) -> bool:
        """Called at the start of a run. True: its outputs are to be NaN.

        Raises:
            EngineFault: the run is to fail.
            EngineUnavailable: the engine is gone.
        """
        self.batch_sizes.append(len(next(iter(inputs.values()))))
        self._gate.wait()
        time.sleep(self._delay_s)
        if self._is_gone(inputs):
            raise EngineUnavailable(f"{spec.name} is gone, as its test wants")
        if self._fails(inputs):
            raise EngineFault(f"{spec.name} fails, as its test wants")
        return self._gives_nan(inputs)


class FakeEngine(BatchedEngine):
    """One fake engine behind the micro-batcher that the ONNX Runtime engine uses."""

    def __init__(
        self,
        manifest: Manifest,
        spec: EngineSpec,
        options: BatchOptions | None = None,
        observer: EngineObserver | None = None,
    ) -> None:
        self.faults = FakeFaults()
        super().__init__(spec, _FakeCompute(manifest, spec, self.faults), options, observer)


@dataclass(frozen=True)
class FakeEngineSet(EngineSet):
    """An `EngineSet` whose engines can be told to misbehave."""

    identity_encoder: FakeEngine
    audio_encoder: FakeEngine
    denoiser: FakeEngine
    decoder: FakeEngine
    other_denoisers: tuple[FakeEngine, ...] = field(default=())


def fake_engine_set(
    manifest: Manifest | None = None,
    *,
    options: BatchOptions | None = None,
    observer: EngineObserver | None = None,
) -> FakeEngineSet:
    """Fakes of all engines of a manifest; without one, of `fake_manifest()`."""
    manifest = manifest or fake_manifest()
    engines = [FakeEngine(manifest, spec, options, observer) for spec in manifest.engines]
    first = {engine.spec.role: engine for engine in reversed(engines)}
    return FakeEngineSet(
        manifest=manifest,
        platform="fake",
        other_denoisers=tuple(
            engine
            for engine in engines
            if engine.spec.role == "denoiser" and engine is not first["denoiser"]
        ),
        **first,
    )


class _FakeCompute:
    def __init__(self, manifest: Manifest, spec: EngineSpec, faults: FakeFaults) -> None:
        self._manifest = manifest
        self._spec = spec
        self._faults = faults
        self._aborted = False

    def run(self, inputs: Tensors) -> dict[str, NDArray[np.generic]]:
        """See `Compute.run`."""
        gives_nan = self._faults.apply(self._spec, inputs)
        if self._aborted:
            raise EngineUnavailable(f"{self._spec.name} is closed")
        output = fake_outputs(self._manifest, self._spec, inputs)
        if gives_nan and self._spec.outputs[0].dtype == "float32":
            output[...] = np.nan
        return {self._spec.outputs[0].name: output}

    def abort(self) -> None:
        """See `Compute.abort`."""
        self._aborted = True
        self._faults.release()

    def pool_cpu_s(self) -> float:
        """See `Compute.pool_cpu_s`: it has none."""
        return 0.0


def _never(_inputs: Tensors) -> bool:
    return False


def _next_runs(num_runs: int) -> Predicate:
    runs = iter(range(num_runs))
    return lambda _inputs: next(runs, None) is not None
