"""The contract suite of all engines, and parity with ONNX Runtime, on the GPU at hand.

`make test-tensorrt` selects these too; without a GPU it says that they were left out.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import numpy as np
import pytest
from mirrorme_engines.batcher import BatchOptions
from mirrorme_engines.compute import Compute
from mirrorme_engines.engine import Tensors
from mirrorme_engines.engine_options import EngineOptions
from mirrorme_engines.errors import EngineFault
from mirrorme_engines.gpu import current_gpu
from mirrorme_engines.manifest import Manifest
from mirrorme_engines.open_engines import open_engines
from mirrorme_engines.tensorrt_compute import TensorRTCompute
from mirrorme_engines.tensorrt_memory import CudaMemory
from mirrorme_engines.tensorrt_module import load_tensorrt
from mirrorme_engines.tensorrt_plan import plan_path
from mirrorme_export.tensorrt_export import build_plans
from mirrorme_export.tensorrt_target import Target, TensorRTOptions

from tests.engines.engine_cases import TinyCase
from tests.engines.onnx_models import WIDTH
from tests.engines.test_engine_contract import (  # noqa: F401 - pytest runs them from here
    Recorder,
    recorder,
    test_a_batch_is_never_larger_than_allowed_and_in_order,
    test_a_fault_is_not_retryable_and_the_engine_goes_on,
    test_a_full_queue_refuses,
    test_a_running_call_times_out_and_the_engine_goes_on,
    test_an_expired_call_is_never_run,
    test_bad_inputs_are_refused_by_name,
    test_batch_size_out_of_range_is_refused,
    test_calls_and_runs_are_observed,
    test_calls_made_during_a_run_join_the_next,
    test_cancelling_a_waiting_call_frees_its_place,
    test_close_ends_running_and_waiting_calls,
    test_different_inputs_give_different_results,
    test_inputs_are_not_changed,
    test_nan_is_a_fault_that_names_its_output,
    test_no_time_at_all_is_a_timeout,
    test_noncontiguous_inputs,
    test_outputs_are_as_the_spec_says,
    test_results_share_no_memory,
    test_satisfies_the_protocol,
)
from tests.triton.small_repository import make_inputs, write_small_repository

GPU = current_gpu()
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        GPU is None, reason="no NVIDIA GPU: the contract and the parity of served plans left out"
    ),
]
TARGET: Target = "tensorrt" if importlib.util.find_spec("tensorrt") else "tensorrt-rtx"
OPTIONS = TensorRTOptions(target=TARGET, precision="fp32")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("small")
    write_small_repository(made)
    build_plans(made, OPTIONS, step=lambda _name: contextlib.nullcontext())
    return made


class RefusingCompute:
    """Fails where ONNX Runtime does: TensorRT reads indices that are out of range as it likes."""

    def __init__(self, inner: Compute) -> None:
        self.inner = inner
        self.abort = inner.abort

    def run(self, inputs: Tensors) -> dict[str, np.ndarray]:
        if (inputs["i"] >= WIDTH).any():
            raise EngineFault("tiny: index out of range")
        return self.inner.run(inputs)


@pytest.fixture
async def open_case(
    folder: Path,
    recorder: Recorder,  # noqa: F811
) -> AsyncIterator[Callable]:
    opened: list[TinyCase] = []
    assert GPU is not None
    spec = next(s for s in Manifest.load(folder).engines if s.name == "tiny")
    plan = plan_path(folder, spec, OPTIONS.module, GPU.architecture).read_bytes()

    def open_one(**options: float) -> TinyCase:
        compute = TensorRTCompute(load_tensorrt(OPTIONS.module), plan, spec, CudaMemory())
        batch = BatchOptions(**options)  # pyright: ignore[reportArgumentType]
        opened.append(TinyCase(spec, RefusingCompute(compute), batch, recorder))
        return opened[-1]

    yield open_one
    for case in opened:
        case.release()
        await case.engine.close()


async def test_joined_calls_get_nearly_what_they_get_alone(open_case: Callable) -> None:
    """Kernels differ with the batch, and with them the last bits."""
    case = open_case()
    inputs = [case.good(seed, size) for seed, size in enumerate((1, 3, 1, 2, 1))]
    alone = [await case.engine.infer(call) for call in inputs]
    joined = await asyncio.gather(*map(case.engine.infer, inputs))
    for left, right in zip(joined, alone, strict=True):
        np.testing.assert_allclose(left["y"], right["y"], rtol=1e-5, atol=1e-5)


async def test_same_results_as_onnxruntime(folder: Path) -> None:
    plans = await open_engines(folder, EngineOptions(platform="tensorrt"))
    local = await open_engines(folder)
    for far, near in zip(plans.engines, local.engines, strict=True):
        for batch_size in range(1, far.spec.max_batch_size + 1):
            inputs = make_inputs(far.spec, batch_size, seed=3)
            got, want = await far.infer(inputs), await near.infer(inputs)
            for name in want:
                difference = got[name].astype(np.float64) - want[name]
                assert np.abs(difference).max() <= (1 if want[name].dtype == np.uint8 else 1e-4)
    await plans.close()
    await local.close()
