"""Costs counted from graphs, against torch's own count and against sums made by hand."""

from __future__ import annotations

import math
from pathlib import Path

import onnx
import pytest
from mirrorme_engines.manifest import EngineSpec, TensorSpec
from mirrorme_export.engine_graphs import EngineGraph
from mirrorme_export.exporter import Export
from mirrorme_export.onnx_cost import GraphCost, UncountableGraph, graph_cost
from onnx import TensorProto, helper
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("name", ["identity_encoder", "audio_encoder", "denoiser", "decoder"])
def test_as_many_as_torch_counts(
    tiny_export: Export, tiny_graphs: list[EngineGraph], name: str, batch_size: int
) -> None:
    graph = next(graph for graph in tiny_graphs if graph.name == name)
    spec = next(spec for spec in tiny_export.manifest.engines if spec.name == name)
    # torch does not count the attention that the CPU computes in one piece.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        graph.run(graph.example_inputs(batch_size, 0))
    cost = graph_cost(tiny_export.folder / spec.file, spec, batch_size)
    # The export makes what depends on no input beforehand.
    assert cost.flops == pytest.approx(counter.get_total_flops(), rel=0.06)
    assert cost.num_products > 5 and cost.num_weights > 1000


def test_bytes_and_the_limit_of_hardware() -> None:
    cost = GraphCost(flops=2_000_000, num_products=1, num_weights=1000, io_bytes=500)
    assert cost.bytes_moved(2) == 2500
    assert cost.least_s(1e9, 1e9, 2) == pytest.approx(2e-3)
    assert cost.least_s(1e15, 1e6, 2) == pytest.approx(2.5e-3)


def save(path: Path, nodes: list[onnx.NodeProto], weights: dict[str, list[int]]) -> EngineSpec:
    floats = TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", floats, ["batch", 4, 8, 8])],
        [helper.make_tensor_value_info("y", floats, None)],
        [
            helper.make_tensor(name, floats, dims, [0.5] * math.prod(dims))
            for name, dims in weights.items()
        ],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]), path)
    inputs = (TensorSpec("x", "float32", (4, 8, 8)),)
    outputs = (TensorSpec("y", "float32", (1,)),)
    return EngineSpec("e", "decoder", path.name, "0" * 64, 8, inputs, outputs)


def test_convolutions_by_hand(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["h"], pads=[1, 1, 1, 1]),
        helper.make_node("ConvTranspose", ["h", "v"], ["y"], strides=[2, 2]),
    ]
    spec = save(tmp_path / "m.onnx", nodes, {"w": [6, 4, 3, 3], "v": [6, 5, 2, 2]})
    cost = graph_cost(tmp_path / "m.onnx", spec, batch_size=2)
    assert cost.flops == 2 * (2 * 6 * 8 * 8) * (4 * 3 * 3) + 2 * (2 * 6 * 8 * 8) * (5 * 2 * 2)
    assert cost.num_weights == 6 * 4 * 9 + 6 * 5 * 4
    assert cost.io_bytes == 2 * 4 * (4 * 8 * 8 + 1)


def test_unknown_shapes_are_named(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("NonZero", ["x"], ["i"]),
        helper.make_node("Cast", ["i"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["f", "w"], ["y"], name="odd"),
    ]
    spec = save(tmp_path / "m.onnx", nodes, {"w": [9, 9]})
    with pytest.raises(UncountableGraph, match="MatMul odd: not all of its shapes"):
        graph_cost(tmp_path / "m.onnx", spec)
