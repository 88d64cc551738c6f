"""FP8 written into a denoiser's graph, as quantise and dequantise nodes around its products.

Quantised (E4M3) are the products with weights of the transformer's blocks: activations with one
scale a tensor, measured by `tensorrt_fp8`, weights with one a channel. All else stays as it is:
what leads into and out of the blocks, the audio adapters, attention's own products, and as many of
the first and last blocks as `Fp8Level.num_spared` says (NVIDIA's recipe for LTX-Video spares these
too). TensorRT joins each product with the nodes around it; ONNX Runtime computes what they say.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import ml_dtypes
import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

LARGEST = float(ml_dtypes.finfo(ml_dtypes.float8_e4m3fn).max)
"""448: what a scale maps the largest value to."""
_BLOCK = re.compile(r"\btransformer_blocks\.(\d+)\.(?:attn\d|ff)\.")
_AMAX_SUFFIX = "__amax"


@dataclass(frozen=True)
class Product:
    """A product that can be quantised: an activation, times the transpose of a stored weight."""

    node: str
    activation: str
    weight: str
    block: int


def find_products(model: ir.Model) -> list[Product]:
    """The products with weights of the transformer's blocks, in the graph's order."""
    found = []
    for node in model.graph:
        if node.op_type != "MatMul" or node.inputs[0] is None:
            continue
        weight = _stored_weight(node)
        match = _BLOCK.search(weight.name or "") if weight is not None else None
        if weight is not None and match:
            found.append(
                Product(
                    node.name or "", node.inputs[0].name or "", weight.name or "", int(match[1])
                )
            )
    return found


def spare_blocks(products: list[Product], num_spared: int) -> list[Product]:
    """All but those of the first and the last blocks."""
    blocks = sorted({product.block for product in products})
    kept = set(blocks[num_spared : len(blocks) - num_spared])
    return [product for product in products if product.block in kept]


def add_amax_outputs(model: ir.Model, products: list[Product]) -> dict[str, str]:
    """Makes the largest magnitude of every product's activation an output of the graph.

    Returns: the output's name of each activation.
    """
    values = _values(model.graph)
    names = {}
    for activation in dict.fromkeys(product.activation for product in products):
        value = values[activation]
        producer = value.producer()
        assert producer is not None, f"{activation} is made by no node"
        magnitude = ir.node("Abs", [value], name=f"{activation}__abs")
        largest = ir.node(
            "ReduceMax",
            [magnitude.outputs[0]],
            {"keepdims": 0},
            outputs=[
                ir.Value(
                    name=f"{activation}{_AMAX_SUFFIX}",
                    shape=ir.Shape([]),
                    type=ir.TensorType(ir.DataType.FLOAT),
                )
            ],
            name=f"{activation}{_AMAX_SUFFIX}",
        )
        model.graph.insert_after(producer, [magnitude, largest])
        model.graph.outputs.append(largest.outputs[0])
        names[activation] = largest.outputs[0].name or ""
    return names


def quantise(
    model: ir.Model,
    products: list[Product],
    scales: dict[str, float],
    weights: dict[str, NDArray[np.float32]],
) -> None:
    """Changes the graph in place, after its precision was lowered.

    Args:
        model: fp32, or lowered by `precision_graph`.
        products: what to quantise; found before the precision was lowered.
        scales: of each activation.
        weights: the stored weights by name, `[outputs, inputs]`.
    """
    nodes = {node.name: node for node in model.graph}
    writer = _Writer(model.graph)
    for product in products:
        node = nodes[product.node]
        activation, weight = node.inputs
        assert activation is not None and weight is not None
        scale = scales[product.activation]
        node.replace_input_with(0, writer.quantised_activation(activation, scale, node))
        node.replace_input_with(1, writer.stored_weight(product.weight, weights, weight, node))
    writer.remove_unused()


def weight_arrays(model: ir.Model, products: list[Product]) -> dict[str, NDArray[np.float32]]:
    """The stored weights of products."""
    arrays = {}
    for name in dict.fromkeys(product.weight for product in products):
        tensor = model.graph.initializers[name].const_value
        assert tensor is not None
        arrays[name] = tensor.numpy()
    return arrays


class _Writer:
    """Shares what several products need: one activation's pair of nodes, one weight's copy."""

    def __init__(self, graph: ir.Graph) -> None:
        self._graph = graph
        self._activations: dict[ir.Value, ir.Value] = {}
        self._weights: dict[str, ir.Value] = {}
        self._zero = self._constant("fp8__zero", np.zeros((), ml_dtypes.float8_e4m3fn))

    def quantised_activation(self, value: ir.Value, scale: float, before: ir.Node) -> ir.Value:
        """The value after a round trip through FP8."""
        if value in self._activations:
            return self._activations[value]
        name = f"{value.name}__fp8"
        kind = value.dtype or ir.DataType.FLOAT
        scale_value = self._constant(f"{name}_scale", np.array(scale, kind.numpy()))
        quantise = ir.node(
            "QuantizeLinear", [value, scale_value, self._zero], name=f"{name}_quantise"
        )
        _declare(quantise.outputs[0], name, ir.DataType.FLOAT8E4M3FN, value.shape)
        back = ir.node(
            "DequantizeLinear",
            [quantise.outputs[0], scale_value, self._zero],
            name=f"{name}_dequantise",
        )
        _declare(back.outputs[0], f"{name}_back", kind, value.shape)
        self._graph.insert_before(before, [quantise, back])
        self._activations[value] = back.outputs[0]
        return back.outputs[0]

    def stored_weight(
        self,
        name: str,
        weights: dict[str, NDArray[np.float32]],
        replaced: ir.Value,
        before: ir.Node,
    ) -> ir.Value:
        """A weight kept in FP8, as `[inputs, outputs]`, in the type that the product had."""
        if name in self._weights:
            return self._weights[name]
        kind = replaced.dtype or ir.DataType.FLOAT
        array = weights[name].T
        scale = weight_scales(array).astype(kind.numpy())
        stored = np.ascontiguousarray(array / scale.astype(np.float32))
        stored_value = self._constant(f"{name}__fp8", stored.astype(ml_dtypes.float8_e4m3fn))
        scale_value = self._constant(f"{name}__fp8_scale", scale)
        back = ir.node(
            "DequantizeLinear",
            [stored_value, scale_value],
            {"axis": 1},
            name=f"{name}__fp8_dequantise",
        )
        _declare(back.outputs[0], f"{name}__fp8_back", kind, ir.Shape(array.shape))
        self._graph.insert_before(before, [back])
        self._weights[name] = back.outputs[0]
        return back.outputs[0]

    def remove_unused(self) -> None:
        """Drops what only the replaced inputs needed: casts, transposes, and weights."""
        for node in reversed(list(self._graph)):
            if not any(v.uses() or v.is_graph_output() for v in node.outputs):
                self._graph.remove(node, safe=True)
        for name, value in list(self._graph.initializers.items()):
            if not value.uses() and not value.is_graph_output():
                del self._graph.initializers[name]

    def _constant(self, name: str, array: NDArray[np.generic]) -> ir.Value:
        tensor = ir.tensor(array, name=name)
        value = ir.Value(
            name=name,
            shape=ir.Shape(array.shape),
            type=ir.TensorType(tensor.dtype),
            const_value=tensor,
        )
        self._graph.register_initializer(value)
        return value


def weight_scales(weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """One scale an output channel of `[inputs, outputs]`, above what fp16 rounds to zero."""
    return np.maximum(np.abs(weight).max(axis=0) / LARGEST, 1e-6).astype(np.float32)


def _declare(value: ir.Value, name: str, kind: ir.DataType, shape: ir.Shape | None) -> None:
    value.name, value.type, value.shape = name, ir.TensorType(kind), shape


def _stored_weight(node: ir.Node) -> ir.Value | None:
    """The initializer whose transpose is the right side of a product."""
    value = node.inputs[1]
    transpose = value.producer() if value is not None else None
    if transpose is None or transpose.op_type != "Transpose":
        return None
    stored = transpose.inputs[0]
    if stored is None or not stored.is_initializer():
        return None
    return stored if tuple(transpose.attributes.get_ints("perm", (1, 0))) == (1, 0) else None


def _values(graph: ir.Graph) -> dict[str, ir.Value]:
    return {value.name or "": value for node in graph for value in node.outputs}
