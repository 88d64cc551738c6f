"""What the ONNX Runtime engine checks when it opens, and how it closes."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import sys
import threading
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from mirrorme_engines.engine_options import EngineOptions
from mirrorme_engines.errors import (
    EngineFault,
    EngineUnavailable,
    ManifestError,
)
from mirrorme_engines.manifest import EngineSpec, TensorSpec, engine_sha256
from mirrorme_engines.onnxruntime_engine import (
    OnnxRuntimeCompute,
    open_onnxruntime_engine,
    platform_name,
)
from onnx import TensorProto, helper

from tests.engines.onnx_models import WIDTH, save_tiny_model, tiny_spec

X, Y = TensorSpec("x", "float32", (4,)), TensorSpec("y", "float32", (4,))
TYPES = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64}


@pytest.fixture
def spec(tmp_path: Path) -> EngineSpec:
    return tiny_spec(save_tiny_model(tmp_path))


def save_graph(
    folder: Path,
    name: str,
    nodes: list[onnx.NodeProto],
    source: TensorSpec = X,
    output: TensorSpec = Y,
) -> EngineSpec:
    path = folder / f"{name}.onnx"
    sides = [
        helper.make_tensor_value_info(t.name, TYPES[t.dtype], ["batch", *t.dims])
        for t in (source, output)
    ]
    graph = helper.make_graph(nodes, name, sides[:1], sides[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save_model(model, path)
    return EngineSpec(
        name, "decoder", path.name, engine_sha256(path), 8, inputs=(source,), outputs=(output,)
    )


def inputs(num_rows: int = 1) -> dict[str, np.ndarray]:
    x = np.linspace(0, 1, num_rows * WIDTH, dtype=np.float32).reshape(num_rows, WIDTH)
    return {"x": x, "i": np.zeros((num_rows, 1), np.int64)}


@pytest.mark.parametrize("num_threads", [1, 2])
async def test_a_row_of_a_batch_is_the_row_alone(
    tmp_path: Path, spec: EngineSpec, num_threads: int
) -> None:
    engine = open_onnxruntime_engine(tmp_path, spec, EngineOptions(num_threads=num_threads))
    batch = inputs(8)
    whole = (await engine.infer(batch))["y"]
    for i in range(8):
        row = {name: array[i : i + 1] for name, array in batch.items()}
        assert (await engine.infer(row))["y"].tobytes() == whole[i].tobytes()
    await engine.close()


async def test_logarithms_of_a_row_do_not_depend_on_the_batch(tmp_path: Path) -> None:
    """As of a spectrogram: by two threads, the ends of each thread's part would differ."""
    width = 7232
    x, y = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", width]) for name in "xy"
    )
    graph = helper.make_graph([helper.make_node("Log", ["x"], ["y"])], "log", [x], [y])
    path = tmp_path / "model.onnx"
    onnx.save_model(helper.make_model(graph, ir_version=10), path)
    tensors = [TensorSpec(name, "float32", (width,)) for name in "xy"]
    spec = EngineSpec(
        "log", "audio_encoder", path.name, engine_sha256(path), 8,
        inputs=tuple(tensors[:1]), outputs=tuple(tensors[1:]),
    )  # fmt: skip
    engine = open_onnxruntime_engine(tmp_path, spec, EngineOptions(num_threads=2, warm_up=False))
    rng = np.random.default_rng(0)
    for _ in range(200):
        rows = rng.uniform(0.01, 1, (2, width)).astype(np.float32)
        both = (await engine.infer({"x": rows}))["y"]
        for row, out in zip(rows, both, strict=True):
            assert (await engine.infer({"x": row[None]}))["y"].tobytes() == out.tobytes()
    await engine.close()


def thread_ids() -> set[int]:
    return {int(task.name) for task in Path("/proc/self/task").iterdir()}


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere threads are equal")
async def test_its_threads_give_way(tmp_path: Path, spec: EngineSpec) -> None:
    before = thread_ids()
    engine = open_onnxruntime_engine(tmp_path, spec, EngineOptions(num_threads=2))
    await engine.infer(inputs())
    own = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    lower = [
        thread_id
        for thread_id in thread_ids() - before
        if os.getpriority(os.PRIO_PROCESS, thread_id) > own
    ]
    assert len(lower) == 2, "the engine's, and one of ONNX Runtime's pool"
    await engine.close()


async def test_external_data_is_loaded_and_checked(tmp_path: Path) -> None:
    path = save_tiny_model(tmp_path, external=True)
    data = path.with_name("model.onnx.data")
    assert data.stat().st_size >= WIDTH * WIDTH * 4
    spec = tiny_spec(path)
    engine = open_onnxruntime_engine(tmp_path, spec, EngineOptions())
    await engine.infer(inputs())
    await engine.close()
    data.write_bytes(bytes(data.stat().st_size))
    with pytest.raises(ManifestError, match="not the file that the manifest describes"):
        open_onnxruntime_engine(tmp_path, spec, EngineOptions())


def test_a_changed_file_is_refused(tmp_path: Path, spec: EngineSpec) -> None:
    path = tmp_path / spec.file
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(ManifestError) as caught:
        OnnxRuntimeCompute(tmp_path, spec, EngineOptions())
    for said in (str(path), engine_sha256(path), spec.sha256, "make export"):
        assert said in str(caught.value)


def test_a_missing_file_is_refused(tmp_path: Path, spec: EngineSpec) -> None:
    (tmp_path / spec.file).unlink()
    with pytest.raises(ManifestError, match=r"model\.onnx cannot be read: No such file"):
        OnnxRuntimeCompute(tmp_path, spec, EngineOptions())


def test_a_file_that_is_no_model_is_refused(tmp_path: Path, spec: EngineSpec) -> None:
    path = tmp_path / spec.file
    path.write_bytes(b"no model")
    spec = dataclasses.replace(spec, sha256=engine_sha256(path))
    with pytest.raises(ManifestError, match="cannot be loaded as engine tiny"):
        OnnxRuntimeCompute(tmp_path, spec, EngineOptions())


@pytest.mark.parametrize(
    "change",
    [
        {"inputs": (TensorSpec("x", "float32", (WIDTH,)),)},
        {"inputs": (TensorSpec("X", "float32", (WIDTH,)), TensorSpec("i", "int64", (1,)))},
        {"inputs": (TensorSpec("x", "uint8", (WIDTH,)), TensorSpec("i", "int64", (1,)))},
        {"inputs": (TensorSpec("x", "float32", (9,)), TensorSpec("i", "int64", (1,)))},
        {"inputs": (TensorSpec("x", "float32", (WIDTH,)), TensorSpec("i", "int64", ()))},
        {"outputs": (TensorSpec("z", "float32", (WIDTH,)),)},
        {"outputs": (TensorSpec("y", "float32", (WIDTH, 1)),)},
    ],
)
def test_a_signature_unlike_the_manifest_names_both(
    tmp_path: Path, spec: EngineSpec, change: dict
) -> None:
    (kind,) = change
    with pytest.raises(ManifestError) as caught:
        OnnxRuntimeCompute(tmp_path, dataclasses.replace(spec, **change), EngineOptions())
    text = str(caught.value)
    assert f"{kind} of the file differ from the manifest's tiny" in text
    found, want = text.split("the file has ")[1].split("; the manifest ")
    assert "float32 [B, 16]" in found
    for tensor in change[kind]:
        assert f"{tensor.dtype} [{', '.join(['B', *map(str, tensor.dims)])}] {tensor.name}" in want


def test_a_baked_in_batch_is_refused(tmp_path: Path) -> None:
    spec = tiny_spec(save_tiny_model(tmp_path, batch=2))
    with pytest.raises(ManifestError, match=r"float32 \[2, 16\] x"):
        OnnxRuntimeCompute(tmp_path, spec, EngineOptions())


async def test_an_output_of_another_shape_than_promised_is_a_fault(tmp_path: Path) -> None:
    """Shape inference may be wrong about what a graph gives."""
    nodes = [
        helper.make_node("NonZero", ["x"], ["where"]),
        helper.make_node("Transpose", ["where"], ["y"]),
    ]
    spec = save_graph(tmp_path, "liar", nodes, output=TensorSpec("y", "int64", (2,)))
    engine = open_onnxruntime_engine(tmp_path, spec, EngineOptions(warm_up=False))
    with pytest.raises(EngineFault, match=r"output y is int64 \[3, 2\]: want int64 \[1, 2\]"):
        await engine.infer({"x": np.array([[1, 0, 1, 1]], np.float32)})
    await engine.close()


async def test_an_engine_that_fails_its_warm_up_is_refused(tmp_path: Path) -> None:
    spec = save_graph(tmp_path, "log", [helper.make_node("Log", ["x"], ["y"])])
    with pytest.raises(EngineFault, match="log: output y holds NaN or infinity"):
        open_onnxruntime_engine(tmp_path, spec, EngineOptions())


async def test_an_output_that_is_an_input_is_copied(tmp_path: Path) -> None:
    spec = save_graph(tmp_path, "same", [helper.make_node("Identity", ["x"], ["y"])])
    engine = open_onnxruntime_engine(tmp_path, spec, EngineOptions())
    given = {"x": np.ones((1, 4), np.float32)}
    result = await engine.infer(given)
    assert not np.shares_memory(result["y"], given["x"])
    await engine.close()


async def test_a_run_in_progress_ends_when_the_engine_closes(tmp_path: Path) -> None:
    """A run of several seconds is ended within one of its nodes."""
    size = 512
    nodes = [
        helper.make_node("MatMul", ["x" if i == 0 else f"h{i - 1}", "x"], [f"h{i}"])
        for i in range(2000)
    ]
    nodes.append(helper.make_node("Identity", ["h1999"], ["y"]))
    square = (size, size)
    spec = save_graph(
        tmp_path,
        "slow",
        nodes,
        TensorSpec("x", "float32", square),
        TensorSpec("y", "float32", square),
    )
    engine = open_onnxruntime_engine(tmp_path, spec, EngineOptions(warm_up=False))
    call = asyncio.create_task(engine.infer({"x": np.zeros((8, size, size), np.float32)}))
    await asyncio.sleep(0.1)
    assert not call.done()
    start_s = time.monotonic()
    await engine.close()
    assert time.monotonic() - start_s < 2
    with pytest.raises(EngineUnavailable):
        await call
    assert not [
        t for t in threading.enumerate() if t.name.startswith("engine-slow") and t.is_alive()
    ]


def test_no_cuda_is_said_with_what_to_install(tmp_path: Path, spec: EngineSpec) -> None:
    with pytest.raises(EngineUnavailable, match=r"install mirrorme\[gpu\]"):
        OnnxRuntimeCompute(tmp_path, spec, EngineOptions(device="cuda"))


def test_platform_name() -> None:
    assert platform_name("cpu").startswith("onnxruntime 1.") and platform_name("cpu")[-3:] == "CPU"
