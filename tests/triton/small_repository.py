"""A hand-made preset: four small random graphs in a manifest of the contract's shapes."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from pathlib import Path

import numpy as np
import onnx
from mirrorme_engines.manifest import (
    FORMAT_VERSION,
    AudioSpec,
    ChunkSpec,
    EngineSpec,
    Manifest,
    Role,
    TensorSpec,
    VideoSpec,
    engine_sha256,
)
from onnx import TensorProto, helper, numpy_helper

from tests.engines.onnx_models import save_tiny_model, tiny_spec

CHANNELS = 8
SIZE = 64
ONNX_TYPES = {"uint8": TensorProto.UINT8, "int64": TensorProto.INT64, "float32": TensorProto.FLOAT}
MAX_BATCH_SIZE = 4

INPUTS: dict[Role, tuple[TensorSpec, ...]] = {
    "identity_encoder": (TensorSpec("image", "uint8", (SIZE, SIZE, 3)),),
    "audio_encoder": (TensorSpec("pcm", "float32", (6560,)), TensorSpec("phase", "int64", ())),
    "denoiser": (
        TensorSpec("noise", "float32", (1, CHANNELS, 2, 2)),
        TensorSpec("identity", "float32", (CHANNELS, 2, 2)),
        TensorSpec("motion", "float32", (1, CHANNELS, 2, 2)),
        TensorSpec("audio_tokens", "float32", (1, 2, 16)),
        TensorSpec("hand_keypoints", "float32", (8, 2, 21, 3)),
        TensorSpec("controls", "float32", (8, 3)),
        TensorSpec("expression", "float32", ()),
    ),
    "decoder": (TensorSpec("latents", "float32", (2, CHANNELS, 2, 2)),),
}
OUTPUTS: dict[Role, TensorSpec] = {
    "identity_encoder": TensorSpec("identity", "float32", (CHANNELS, 2, 2)),
    "audio_encoder": TensorSpec("audio_tokens", "float32", (1, 2, 16)),
    "denoiser": TensorSpec("latents", "float32", (1, CHANNELS, 2, 2)),
    "decoder": TensorSpec("frames", "uint8", (8, SIZE, SIZE, 3)),
}


def write_small_repository(folder: Path, *, seed: int = 1, depth: int = 0) -> Manifest:
    """Writes graphs and manifest. Another seed gives other weights, `depth` a slower denoiser."""
    engines = (
        *(
            _write_engine(folder, role, seed + i, depth if role == "denoiser" else 0)
            for i, role in enumerate(INPUTS)
        ),
        # A second decoder, which the contract suite can make fail.
        tiny_spec(save_tiny_model(folder)),
    )
    digest = hashlib.sha256("".join(engine.sha256 for engine in engines).encode()).hexdigest()
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        preset="small",
        trained=False,
        weights_sha256=digest,
        versions={"onnx": onnx.__version__},
        video=VideoSpec(SIZE, SIZE, 24, 1, 8, CHANNELS, 2, 2),
        chunk=ChunkSpec(1, 1, 1, 0),
        audio=AudioSpec(16000, 320, 1000, 6560, 3),
        hands=True,
        controls=(),
        expression=None,
        guidance=None,
        engines=engines,
    )
    manifest.save(folder)
    return manifest


def make_inputs(spec: EngineSpec, batch_size: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Random inputs of the right names, types and shapes."""
    random = np.random.default_rng([seed, batch_size])
    made: dict[str, np.ndarray] = {}
    for tensor in spec.inputs:
        shape = (batch_size, *tensor.dims)
        match tensor.dtype:
            case "uint8":
                made[tensor.name] = random.integers(0, 256, shape, dtype=np.uint8)
            case "int64":
                made[tensor.name] = random.integers(0, 3, shape, dtype=np.int64)
            case "float32":
                made[tensor.name] = random.standard_normal(shape, dtype=np.float32)
    return made


def _write_engine(folder: Path, role: Role, seed: int, depth: int) -> EngineSpec:
    spec = EngineSpec(
        name=role,
        role=role,
        file=f"{role}/1/model.onnx",
        sha256="0" * 64,
        max_batch_size=MAX_BATCH_SIZE,
        inputs=INPUTS[role],
        outputs=(OUTPUTS[role],),
        num_steps=2 if role == "denoiser" else None,
    )
    path = folder / spec.file
    path.parent.mkdir(parents=True)
    path.write_bytes(_graph(spec, seed, depth).SerializeToString())
    return dataclasses.replace(spec, sha256=engine_sha256(path))


def _graph(spec: EngineSpec, seed: int, depth: int) -> onnx.ModelProto:
    """Each input is flattened and projected to the output's size; their sum goes through tanh."""
    random = np.random.default_rng(seed)
    (output,) = spec.outputs
    width = 64
    nodes, weights, parts = [], [], []

    def weight(name: str, array: np.ndarray) -> str:
        weights.append(numpy_helper.from_array(array, name))
        return name

    def project(source: str, rows: int, columns: int, target: str) -> None:
        matrix = random.standard_normal((rows, columns)).astype(np.float32) / math.sqrt(rows)
        nodes.append(helper.make_node("MatMul", [source, weight(f"{target}.w", matrix)], [target]))

    for tensor in spec.inputs:
        name = tensor.name
        count = math.prod(tensor.dims)
        shape = weight(f"{name}.shape", np.array([-1, count], np.int64))
        nodes.append(helper.make_node("Cast", [name], [f"{name}.f"], to=TensorProto.FLOAT))
        scale = weight(f"{name}.scale", np.float32(1 / 255 if tensor.dtype == "uint8" else 1))
        nodes.append(helper.make_node("Mul", [f"{name}.f", scale], [f"{name}.s"]))
        nodes.append(helper.make_node("Reshape", [f"{name}.s", shape], [f"{name}.r"]))
        project(f"{name}.r", count, width, f"{name}.p")
        parts.append(f"{name}.p")
    nodes.append(helper.make_node("Sum", parts, ["sum"]))
    last = "sum"
    if depth:
        project("sum", width, 512, "wide0")
        for i in range(depth):
            project(f"wide{i}", 512, 512, f"deep{i}")
            nodes.append(helper.make_node("Tanh", [f"deep{i}"], [f"wide{i + 1}"]))
        project(f"wide{depth}", 512, width, "narrow")
        last = "narrow"
    project(last, width, math.prod(output.dims), "projected")
    nodes.append(helper.make_node("Tanh", ["projected"], ["bounded"]))
    shape = weight("shape", np.array([-1, *output.dims], np.int64))
    if output.dtype == "uint8":
        half, centre = weight("half", np.float32(127)), weight("centre", np.float32(128))
        nodes.append(helper.make_node("Mul", ["bounded", half], ["scaled"]))
        nodes.append(helper.make_node("Add", ["scaled", centre], ["shifted"]))
        nodes.append(helper.make_node("Reshape", ["shifted", shape], ["shaped"]))
        nodes.append(helper.make_node("Cast", ["shaped"], [output.name], to=TensorProto.UINT8))
    else:
        nodes.append(helper.make_node("Reshape", ["bounded", shape], [output.name]))
    graph = helper.make_graph(
        nodes,
        spec.name,
        [_value(tensor) for tensor in spec.inputs],
        [_value(tensor) for tensor in spec.outputs],
        weights,
    )
    opsets = [helper.make_opsetid("", 20)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    onnx.checker.check_model(model)
    return model


def _value(tensor: TensorSpec) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(
        tensor.name, ONNX_TYPES[tensor.dtype], ["batch", *tensor.dims]
    )
