"""What is checked before a TensorRT plan is served, and how its memory is kept. No GPU is needed.

Runs on a GPU are in tests/tensorrt.
"""

from __future__ import annotations

import asyncio
import dataclasses
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from mirrorme_engines import tensorrt_engine
from mirrorme_engines.engine import EngineSet
from mirrorme_engines.engine_options import EngineOptions
from mirrorme_engines.errors import EngineError, EngineFault, EngineUnavailable, ManifestError
from mirrorme_engines.gpu import Gpu
from mirrorme_engines.manifest import ROLES, Manifest, TensorSpec
from mirrorme_engines.open_engines import open_engines
from mirrorme_engines.tensorrt_compute import TensorRTCompute
from mirrorme_engines.tensorrt_memory import CudaMemory
from mirrorme_engines.tensorrt_module import load_tensorrt, tensorrt_log
from mirrorme_engines.tensorrt_plan import (
    RECORD_FORMAT,
    PlanFacts,
    PlanRecord,
    PlanSource,
    Profile,
    file_sha256,
    plan_path,
    record_path,
)

from tests.engines.fake_tensorrt import FakeEngine, HostMemory, fake_tensorrt
from tests.engines.onnx_models import WIDTH, save_tiny_model, tiny_spec
from tests.engines.test_open_engines import engine_threads, tiny_manifest

L40S = Gpu("NVIDIA L40S", "sm89")
without_gpu = pytest.mark.skipif(
    Path("/dev/nvidia0").exists(), reason="asks what is said without a GPU"
)


def write_plans(folder: Path, manifest: Manifest, **changes: str) -> None:
    for spec in manifest.engines:
        source = PlanSource(
            engine=spec.name,
            engine_sha256=spec.sha256,
            weights_sha256=manifest.weights_sha256,
            module="tensorrt_rtx",
            module_version="1.7",
            architecture="sm89",
            device="",
            precision="fp16",
            precision_level="wide",
            profiles=tuple(
                Profile(t.name, (1, *t.dims), (4, *t.dims), (spec.max_batch_size, *t.dims))
                for t in spec.inputs
            ),
            flags=(),
        )
        source = dataclasses.replace(source, **changes)  # pyright: ignore[reportArgumentType]
        plan = plan_path(folder, spec, source.module, "sm89")
        plan.parent.mkdir(parents=True, exist_ok=True)
        plan.write_bytes(b"plan")
        facts = PlanFacts(1, None, None, 0.0)
        record = PlanRecord(RECORD_FORMAT, source, file_sha256(plan), 4, facts)
        record.save(record_path(plan))


class Machine:
    """A machine with an L40S, TensorRT for RTX 1.7 and a folder of plans."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest = tiny_manifest(folder)
        # All engines are the tiny model; each has a place of its own for its plan.
        engines = []
        for spec in self.manifest.engines:
            file = folder / spec.name / "1/model.onnx"
            file.parent.mkdir(parents=True)
            file.write_bytes((folder / spec.file).read_bytes())
            engines.append(dataclasses.replace(spec, file=f"{spec.name}/1/model.onnx"))
        self.manifest = dataclasses.replace(self.manifest, engines=tuple(engines))
        self.manifest.save(folder)
        write_plans(folder, self.manifest)
        self.memory = HostMemory()
        self.trt = fake_tensorrt(engines[0], folder / engines[0].file)

    @property
    def plan(self) -> Path:
        return plan_path(self.folder, self.manifest.engine("decoder"), "tensorrt_rtx", "sm89")

    async def open(self) -> EngineSet:
        return await open_engines(self.folder, EngineOptions(platform="tensorrt"))

    async def refused(self, kind: type[EngineError] = ManifestError) -> str:
        with pytest.raises(kind) as caught:
            await self.open()
        assert engine_threads() == [] and not self.memory.blocks and not self.memory.streams
        return str(caught.value)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine(tmp_path)
    monkeypatch.setattr(tensorrt_engine, "current_gpu", lambda: L40S)
    monkeypatch.setattr(tensorrt_engine, "load_tensorrt", lambda _module: made.trt)
    monkeypatch.setattr(tensorrt_engine, "CudaMemory", lambda: made.memory)
    return made


async def test_plans_are_served_and_closed_without_a_trace(machine: Machine) -> None:
    engines = await machine.open()
    assert engines.platform == "tensorrt_rtx 1.7 NVIDIA L40S"
    assert [engine.spec.name for engine in engines.engines] == [*ROLES, "denoiser_2step"]
    assert len(machine.memory.blocks) == 3 * 5 and len(machine.memory.streams) == 5
    x = np.linspace(0, 1, 2 * WIDTH, dtype=np.float32).reshape(2, WIDTH)
    inputs = {"x": x, "i": np.array([[3], [4]])}
    local = await open_engines(machine.folder)
    got, want = await engines.decoder.infer(inputs), await local.decoder.infer(inputs)
    assert np.array_equal(got["y"], want["y"])
    await local.close()
    await engines.close()
    assert engine_threads() == [] and not machine.memory.blocks and not machine.memory.streams


async def test_no_plans_for_this_gpu(machine: Machine, monkeypatch) -> None:
    monkeypatch.setattr(tensorrt_engine, "current_gpu", lambda: Gpu("NVIDIA H100", "sm90"))
    said = await machine.refused()
    assert "no TensorRT plans for this GPU, NVIDIA H100 (sm90)" in said
    assert "there are model.rtx-sm89.plan" in said and "mirrorme-export tensorrt" in said
    for plan in machine.folder.rglob("*.plan"):
        plan.unlink()
    assert "there are none at all" in await machine.refused()


async def test_plans_of_tensorrt_itself_come_first(machine: Machine) -> None:
    write_plans(machine.folder, machine.manifest, module="tensorrt")
    engines = await machine.open()
    assert engines.platform.startswith("tensorrt 1.7")
    await engines.close()


async def test_a_missing_plan_is_named(machine: Machine) -> None:
    machine.plan.unlink()
    assert f"{machine.plan} cannot be read" in await machine.refused()


async def test_a_damaged_plan_is_named(machine: Machine) -> None:
    machine.plan.write_bytes(b"plam")
    assert f"{machine.plan} is damaged" in await machine.refused()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"weights_sha256": "f" * 64}, "is stale: it was built of weights ffff"),
        ({"engine_sha256": "e" * 64}, "is stale: it was built of ONNX file eeee"),
        ({"architecture": "sm120"}, "it was built for sm120, this machine has sm89"),
        ({"module_version": "1.6"}, "built by tensorrt_rtx 1.6, this machine has 1.7"),
    ],
)
async def test_what_a_plan_was_built_of_is_checked(
    machine: Machine, changes: dict[str, str], said: str
) -> None:
    write_plans(machine.folder, machine.manifest, **changes)
    assert said in await machine.refused()


async def test_a_plan_timed_on_another_card_is_served_with_a_warning(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    write_plans(machine.folder, machine.manifest, device="NVIDIA L4")
    await (await machine.open()).close()
    assert "was timed on NVIDIA L4, this is NVIDIA L40S" in caplog.text


async def test_a_plan_that_tensorrt_refuses_is_named_with_its_words(machine: Machine) -> None:
    machine.plan.write_bytes(b"plam")
    record = PlanRecord.load(record_path(machine.plan))
    record = dataclasses.replace(record, plan_sha256=file_sha256(machine.plan))
    record.save(record_path(machine.plan))
    said = await machine.refused()
    assert f"{machine.plan} cannot be served: it does not load on this GPU" in said
    assert "magicTag failed" in said


async def test_too_little_memory_is_told_and_all_of_it_given_back(machine: Machine) -> None:
    machine.memory.limit_bytes = 3000
    assert "cudaErrorMemoryAllocation" in await machine.refused(EngineFault)


async def test_a_failed_warm_up_opens_nothing(machine: Machine) -> None:
    machine.memory.fails = True
    assert "cudaErrorIllegalAddress" in await machine.refused(EngineFault)


@pytest.mark.parametrize(
    ("shown", "wanted"),
    [
        (TensorSpec("x", "float32", (8,)), "float32 [B, 8] x"),
        (TensorSpec("x", "uint8", (WIDTH,)), "uint8 [B, 16] x"),
        (TensorSpec("z", "float32", (WIDTH,)), "float32 [B, 16] z"),
    ],
)
def test_a_signature_unlike_the_manifest_names_both(tmp_path: Path, shown, wanted: str) -> None:
    path = save_tiny_model(tmp_path)
    spec = tiny_spec(path)
    other = dataclasses.replace(spec, inputs=(shown, spec.inputs[1]))
    with pytest.raises(ManifestError) as caught:
        TensorRTCompute(fake_tensorrt(other, path), b"plan", spec, HostMemory())
    found, want = str(caught.value).split("the plan has ")[1].split("; the manifest ")
    assert wanted in found and "float32 [B, 16] x" in want


def test_a_plan_of_smaller_batches_is_refused(tmp_path: Path) -> None:
    path = save_tiny_model(tmp_path)
    trt = fake_tensorrt(tiny_spec(path), path, max_batch_size=4)
    with pytest.raises(ManifestError, match="batches of 1 to 4: want 1 to 8"):
        TensorRTCompute(trt, b"plan", tiny_spec(path), HostMemory())


def test_memory_is_kept_until_the_run_that_abort_meets_has_ended(tmp_path: Path) -> None:
    path = save_tiny_model(tmp_path)
    begun, go_on = threading.Event(), threading.Event()

    class SlowMemory(HostMemory):
        def wait(self, stream: int) -> None:
            begun.set()
            assert go_on.wait(5)
            super().wait(stream)

    memory, spec = SlowMemory(), tiny_spec(path)
    compute = TensorRTCompute(fake_tensorrt(spec, path), b"plan", spec, memory)
    inputs = {"x": np.ones((1, WIDTH), np.float32), "i": np.zeros((1, 1), np.int64)}

    async def run() -> None:
        running = asyncio.create_task(asyncio.to_thread(compute.run, inputs))
        await asyncio.to_thread(begun.wait, 5)
        compute.abort()
        assert len(memory.blocks) == 3
        go_on.set()
        assert (await running)["y"].shape == (1, WIDTH)

    asyncio.run(run())
    assert not memory.blocks and not memory.streams
    with pytest.raises(EngineUnavailable, match="is closed"):
        compute.run(inputs)
    compute.abort()


@without_gpu
async def test_without_a_gpu_it_says_so(tmp_path: Path) -> None:
    tiny_manifest(tmp_path)
    with pytest.raises(EngineUnavailable, match="no GPU or no driver here: use platform onnx"):
        await open_engines(tmp_path, EngineOptions(platform="tensorrt"))


@without_gpu
def test_memory_without_a_gpu_says_what_cuda_says() -> None:
    with pytest.raises(EngineUnavailable, match="no NVIDIA GPU can be used: cudaFree failed: cuda"):
        CudaMemory()


def test_missing_bindings_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", None)
    with pytest.raises(EngineUnavailable, match=r"pip install 'mirrorme\[tensorrt\]'"):
        CudaMemory()


def test_the_real_tensorrt_has_what_the_fake_has() -> None:
    real = load_tensorrt("tensorrt_rtx")
    assert isinstance(tensorrt_log(real), real.ILogger)
    methods = {name for name in vars(FakeEngine) if name.startswith(("get_", "set_", "execute_"))}
    assert len(methods) == 8
    engine = {name for name in methods if name.startswith("get_")}
    assert engine | {"num_io_tensors", "create_execution_context"} <= set(dir(real.ICudaEngine))
    assert methods - engine <= set(dir(real.IExecutionContext))
    assert {real.TensorIOMode.INPUT, real.TensorIOMode.OUTPUT}
    kinds = {real.float32: "float32", real.int64: "int64", real.uint8: "uint8"}
    assert all(np.dtype(real.nptype(kind)).name == name for kind, name in kinds.items())


def test_the_real_tensorrt_refuses_what_is_no_plan(tmp_path: Path) -> None:
    spec = tiny_spec(save_tiny_model(tmp_path))
    with pytest.raises(ManifestError, match=r"does not load on this GPU: .*Error Code 1"):
        TensorRTCompute(load_tensorrt("tensorrt_rtx"), b"no plan" * 99, spec, HostMemory())


def test_an_empty_shell_of_a_package_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    shell = SimpleNamespace(__version__="11.0")
    monkeypatch.setitem(sys.modules, "tensorrt", shell)
    with pytest.raises(EngineUnavailable, match=r"tensorrt 11\.0 has no Builder"):
        load_tensorrt("tensorrt")
    monkeypatch.setitem(sys.modules, "tensorrt", SimpleNamespace(__version__="10.9", Builder=1))
    with pytest.raises(EngineUnavailable, match=r"tensorrt is 10\.9: want 10\.12 or newer"):
        load_tensorrt("tensorrt")
