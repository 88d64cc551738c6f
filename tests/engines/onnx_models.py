"""A tiny ONNX engine for tests: `y = sqrt(x) @ W + x[i]`.

A negative x gives NaN, an index out of range makes the whole run fail.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from mirrorme_engines.manifest import EngineSpec, TensorSpec, engine_sha256
from onnx import TensorProto, helper, numpy_helper

WIDTH = 16


def save_tiny_model(folder: Path, *, batch: int | str = "batch", external: bool = False) -> Path:
    path = folder / "tiny/1/model.onnx"
    path.parent.mkdir(parents=True)
    weights = np.random.default_rng(0).standard_normal((WIDTH, WIDTH)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Sqrt", ["x"], ["root"]),
            helper.make_node("MatMul", ["root", "weights"], ["product"]),
            helper.make_node("GatherElements", ["x", "i"], ["picked"], axis=1),
            helper.make_node("Add", ["product", "picked"], ["y"]),
        ],
        "tiny",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, WIDTH]),
            helper.make_tensor_value_info("i", TensorProto.INT64, [batch, 1]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, WIDTH])],
        [numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save_model(
        model,
        path,
        save_as_external_data=external,
        location="model.onnx.data",
        size_threshold=0,
    )
    return path


def tiny_spec(path: Path) -> EngineSpec:
    return EngineSpec(
        name="tiny",
        role="decoder",
        file="tiny/1/model.onnx",
        sha256=engine_sha256(path),
        max_batch_size=8,
        inputs=(TensorSpec("x", "float32", (WIDTH,)), TensorSpec("i", "int64", (1,))),
        outputs=(TensorSpec("y", "float32", (WIDTH,)),),
    )
