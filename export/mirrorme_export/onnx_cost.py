"""What an ONNX graph costs: multiplications and additions counted, bytes that must be moved.

Counts the products (matrix products and convolutions), which make up nearly all of the work of
these networks, as two operations for each multiplication and addition. The bytes are the least
that any implementation moves: every weight read once, inputs and outputs; what lies between stays
on the chip.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir
from mirrorme_engines.manifest import EngineSpec
from onnxscript import optimizer

from mirrorme_export.errors import ExportError

_PRODUCTS = frozenset({"MatMul", "Gemm", "Conv", "ConvTranspose"})
_BYTES = {"uint8": 1, "int64": 8, "float32": 4}


class UncountableGraph(ExportError):
    """A product's shapes are not known, so that its cost is not."""


@dataclass(frozen=True)
class GraphCost:
    """Of one run at one batch size."""

    flops: int
    num_products: int
    num_weights: int
    """Numbers, each once, however often the graph uses it."""
    io_bytes: int

    def bytes_moved(self, bytes_a_weight: float) -> float:
        """The least, for weights of so many bytes each."""
        return self.num_weights * bytes_a_weight + self.io_bytes

    def least_s(self, flops_per_s: float, bytes_per_s: float, bytes_a_weight: float) -> float:
        """The time below which hardware of these rates cannot be (the roofline)."""
        return max(self.flops / flops_per_s, self.bytes_moved(bytes_a_weight) / bytes_per_s)


def graph_cost(path: Path, spec: EngineSpec, batch_size: int = 1) -> GraphCost:
    """Counts one engine's graph.

    Raises:
        UncountableGraph: naming the node whose shapes shape inference does not find.
    """
    model = ir.load(path)
    weights = [value for value in model.graph.initializers.values() if _is_float(value)]
    num_weights = sum(math.prod(_dims(value) or (0,)) for value in weights)
    for value in model.graph.inputs:
        assert value.shape is not None
        value.shape = ir.Shape([batch_size, *value.shape[1:]])
    for node in model.graph:
        for value in node.outputs:
            value.shape = None
    # With the batch known, all that is computed from shapes folds to constants.
    optimizer.fold_constants(model, onnx_shape_inference=True)
    products = [n for n in model.graph if n.op_type in _PRODUCTS and not _is_mean(n)]
    counts = [_flops(node) for node in products]
    tensors = (*spec.inputs, *spec.outputs)
    row_bytes = sum(math.prod(tensor.dims) * _BYTES[tensor.dtype] for tensor in tensors)
    return GraphCost(
        flops=sum(counts),
        num_products=len(counts),
        num_weights=num_weights,
        io_bytes=batch_size * row_bytes,
    )


def _flops(node: ir.Node) -> int:
    values = (*node.inputs[:2], node.outputs[0])
    shapes = [_dims(value) if value is not None else None for value in values]
    left, right, out = shapes
    if left is None or right is None or out is None:
        raise UncountableGraph(f"{node.op_type} {node.name}: not all of its shapes are known")
    match node.op_type:
        case "MatMul":
            return 2 * math.prod(out) * left[-1]
        case "Gemm":
            return 2 * math.prod(out) * left[0 if node.attributes.get_int("transA", 0) else -1]
        case "Conv":
            # [outputs, inputs of a group, *kernel]
            return 2 * math.prod(out) * math.prod(right[1:])
        case _:
            # ConvTranspose, [inputs, outputs of a group, *kernel]: each input makes a kernel.
            return 2 * math.prod(left) * math.prod(right[1:])


def _is_mean(node: ir.Node) -> bool:
    """A mean over channels, which `batch_invariance` writes as a convolution."""
    kernel = node.inputs[1]
    if node.op_type != "Conv" or kernel is None or kernel.const_value is None:
        return False
    dims = kernel.const_value.shape.numpy()
    if dims[0] != 1 or math.prod(dims) != dims[1]:
        return False
    return bool((kernel.const_value.numpy() == np.float32(1 / dims[1])).all())


def _dims(value: ir.Value) -> tuple[int, ...] | None:
    if value.shape is None:
        return None
    dims = tuple(dim for dim in value.shape if isinstance(dim, int))
    return dims if len(dims) == len(value.shape) else None


def _is_float(value: ir.Value) -> bool:
    return value.const_value is not None and value.const_value.dtype.is_floating_point()
