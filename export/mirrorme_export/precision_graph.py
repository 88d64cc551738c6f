"""Lower precision written into an ONNX graph, since TensorRT's networks are strongly typed.

Products (matrix products and convolutions) are computed in fp16 or bf16; normalisations, softmax,
the residual stream and whatever follows the last product stay in fp32. Inputs and outputs of the
graph keep their types. The emulated form computes in fp32 and rounds where the typed form has low
types: ONNX Runtime on the CPU lacks kernels for these, and tensor cores add up in fp32 as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import ml_dtypes
import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import ShapeInferencePass

Level = Literal["wide", "products", "weights", "none"]
"""What is lowered: products and what only passes their results on; products; products with
weights, not those of attention; nothing."""
LEVELS: tuple[Level, ...] = get_args(Level)
LowType = Literal["fp16", "bf16"]

_PRODUCTS = frozenset({"MatMul", "Gemm", "Conv", "ConvTranspose"})
_FOLLOWERS = frozenset(
    {
        *("Concat", "DepthToSpace", "Expand", "Flatten", "Gather", "Identity", "Pad", "Reshape"),
        *("Slice", "SpaceToDepth", "Split", "Squeeze", "Transpose", "Unsqueeze", "Where"),
        *("Add", "Gelu", "LeakyRelu", "MaxPool", "Mul", "Neg", "Relu", "Sigmoid", "Sub", "Tanh"),
    }
)
_TYPES: dict[LowType, tuple[ir.DataType, np.dtype]] = {
    "fp16": (ir.DataType.FLOAT16, np.dtype(np.float16)),
    "bf16": (ir.DataType.BFLOAT16, np.dtype(ml_dtypes.bfloat16)),
}


def lower_precision(model: ir.Model, low: LowType, level: Level, *, emulate: bool) -> int:
    """Changes the graph in place. Returns how many of its nodes are lowered.

    Args:
        model: fp32.
        low: the type.
        level: what is lowered.
        emulate: rounds instead of changing types.
    """
    if any(value.dtype is None for node in model.graph for value in node.outputs):
        ShapeInferencePass()(model)
    lowered = _choose(model.graph, level)
    rewriter = _Rewriter(model.graph, low, emulate, set(lowered))
    for node in lowered:
        rewriter.lower(node)
    rewriter.finish()
    return len(lowered)


def _choose(graph: ir.Graph, level: Level) -> list[ir.Node]:
    """The nodes to lower, in the graph's order."""
    if level == "none":
        return []
    tail = _tail(graph)
    chosen: list[ir.Node] = []
    low_values: set[ir.Value] = set()
    for node in graph:
        if _is_product(node):
            take = level != "weights" or any(map(_is_constant, _floats(node)))
        else:
            moving = [value for value in _floats(node) if not _is_constant(value)]
            take = (
                level == "wide"
                and node.op_type in _FOLLOWERS
                and node not in tail
                and bool(moving)
                and all(value in low_values for value in moving)
            )
        if take:
            chosen.append(node)
            low_values.update(node.outputs)
    return chosen


def _tail(graph: ir.Graph) -> set[ir.Node]:
    """What lies between the last products and the outputs: rounding there is seen at once."""
    tail: set[ir.Node] = set()
    waiting = [value.producer() for value in graph.outputs]
    while waiting:
        node = waiting.pop()
        if node is None or node in tail or _is_product(node):
            continue
        tail.add(node)
        waiting.extend(value.producer() for value in node.inputs if value is not None)
    return tail


def _is_product(node: ir.Node) -> bool:
    return node.domain == "" and node.op_type in _PRODUCTS and bool(_floats(node))


def _floats(node: ir.Node) -> list[ir.Value]:
    return [v for v in node.inputs if v is not None and v.dtype == ir.DataType.FLOAT]


def _is_constant(value: ir.Value) -> bool:
    """A weight, stored as it is or transposed on its way to the product."""
    producer = value.producer()
    if producer is None:
        return value.is_initializer()
    if producer.op_type in ("Identity", "Reshape", "Transpose"):
        return all(_is_constant(source) for source in producer.inputs if source is not None)
    return producer.op_type == "Constant"


@dataclass
class _Rewriter:
    """Owns the values that stand for others in low precision while a graph is rewritten."""

    graph: ir.Graph
    low: LowType
    emulate: bool
    lowered: set[ir.Node]

    def __post_init__(self) -> None:
        self._low_of: dict[ir.Value, ir.Value] = {}
        self._made_low: list[ir.Value] = []

    def lower(self, node: ir.Node) -> None:
        """Gives the node low inputs, and notes its outputs."""
        for i, value in enumerate(node.inputs):
            if value is not None and value.dtype == ir.DataType.FLOAT:
                node.replace_input_with(i, self._lowered_input(value, node))
        for value in node.outputs:
            # Its type changes only when all nodes have been seen: consumers are told apart by it.
            self._made_low.append(value)
            self._low_of[value] = value

    def finish(self) -> None:
        """Gives all other consumers of low values what they had: fp32."""
        for value in self._made_low:
            if self.emulate:
                self._round_output(value)
            else:
                self._retype_output(value)
        for value in self._low_of:
            if value.is_initializer() and not value.uses() and not value.is_graph_output():
                del self.graph.initializers[value.name or ""]

    def _lowered_input(self, value: ir.Value, node: ir.Node) -> ir.Value:
        if value not in self._low_of:
            if value.is_initializer() and value.const_value is not None:
                self._low_of[value] = self._lowered_initializer(value)
            else:
                self._low_of[value] = self._cast_before(value, node)
        return self._low_of[value]

    def _lowered_initializer(self, value: ir.Value) -> ir.Value:
        tensor = value.const_value
        assert tensor is not None
        kind, dtype = _TYPES[self.low]

        def convert() -> ir.Tensor:
            # A mask of very large numbers must not become one of infinities.
            largest = float(ml_dtypes.finfo(dtype).max)
            rounded = tensor.numpy().clip(-largest, largest).astype(dtype)
            return ir.Tensor(rounded.astype(np.float32) if self.emulate else rounded)

        name = f"{value.name}__{self.low}"
        shape = ir.Shape([int(size) for size in tensor.shape.numpy()])
        dtype_out = ir.DataType.FLOAT if self.emulate else kind
        # Converted when the file is written, one after another: never all in memory at once.
        lazy = ir.LazyTensor(convert, dtype_out, shape, name=name)
        made = ir.Value(name=name, shape=shape, type=ir.TensorType(dtype_out), const_value=lazy)
        self.graph.register_initializer(made)
        return made

    def _cast_before(self, value: ir.Value, node: ir.Node) -> ir.Value:
        producer = value.producer()
        low = self._cast(value, _TYPES[self.low][0], self.low)
        made = [low]
        if self.emulate:
            made.append(self._cast(low, ir.DataType.FLOAT, "back"))
        nodes = [cast.producer() for cast in made]
        if producer is None:
            # A graph input: its first consumer in the graph's order is the one at hand.
            self.graph.insert_before(node, [n for n in nodes if n is not None])
        else:
            self.graph.insert_after(producer, [n for n in nodes if n is not None])
        return made[-1]

    def _cast(self, value: ir.Value, kind: ir.DataType, suffix: str) -> ir.Value:
        name = f"{value.name}__{suffix}"
        node = ir.node(
            "Cast",
            [value],
            {"to": kind},
            outputs=[ir.Value(name=name, shape=value.shape, type=ir.TensorType(kind))],
            name=name,
        )
        return node.outputs[0]

    def _round_output(self, value: ir.Value) -> None:
        uses = list(value.uses())
        low = self._cast(value, _TYPES[self.low][0], self.low)
        self._insert_and_reroute(value, [low, self._cast(low, ir.DataType.FLOAT, "back")], uses)

    def _retype_output(self, value: ir.Value) -> None:
        others = [use for use in value.uses() if use.node not in self.lowered]
        value.type = ir.TensorType(_TYPES[self.low][0])
        if others or value.is_graph_output():
            self._insert_and_reroute(value, [self._cast(value, ir.DataType.FLOAT, "back")], others)

    def _insert_and_reroute(self, value: ir.Value, casts: list[ir.Value], uses: list[Any]) -> None:
        producer = value.producer()
        assert producer is not None
        self.graph.insert_after(producer, [n for n in (c.producer() for c in casts) if n])
        for node, index in uses:
            node.replace_input_with(index, casts[-1])
        if value.is_graph_output():
            name, value.name = value.name, f"{value.name}__inner"
            casts[-1].name = name
            for i, output in enumerate(self.graph.outputs):
                if output is value:
                    self.graph.outputs[i] = casts[-1]
