"""Weights given to an ONNX graph after it was traced, and read only while it is written.

The graph was traced with memory that has no content, so it must get its weights before anything
looks at them.
"""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir
from torch import Tensor

from mirrorme_export.engine_graphs import LateWeights
from mirrorme_export.errors import UnexportableGraph


def give_weights(model: ir.Model, late: LateWeights) -> None:
    """Lets the graph's initializers be read when they are needed; large ones lie as products use
    them, so that no runtime makes transposed copies.

    Raises:
        UnexportableGraph: an initializer is of another shape than the weight of its name.
    """
    for name, value in model.graph.initializers.items():
        if name not in late.shapes:
            continue
        found = () if value.shape is None else tuple(value.shape.numpy())
        if found != late.shapes[name]:
            raise UnexportableGraph(f"{name} is traced as {found}: want {late.shapes[name]}")
        value.const_value = _lazy(name, found, late.read)
    for node in list(model.graph):
        _transpose_weight(model, node, late)


def _transpose_weight(model: ir.Model, node: ir.Node, late: LateWeights) -> None:
    """Takes a transposed copy of a matrix for the transposition of it."""
    value = node.inputs[0] if node.op_type == "Transpose" else None
    original = value.name if value is not None else None
    if value is None or original is None or len(late.shapes.get(original, ())) != 2:
        return
    if tuple(node.attributes.get_ints("perm", (1, 0))) != (1, 0):
        return
    rows, columns = late.shapes[original]
    name = f"{original}.transposed"
    made = model.graph.initializers.get(name)
    if made is None:
        tensor = _lazy(name, (columns, rows), lambda _: late.read(original).t().contiguous())
        made = ir.Value(
            name=name,
            shape=ir.Shape((columns, rows)),
            type=ir.TensorType(ir.DataType.FLOAT),
            const_value=tensor,
        )
        model.graph.register_initializer(made)
    node.outputs[0].replace_all_uses_with(made)
    model.graph.remove(node, safe=True)
    if not value.uses():
        del model.graph.initializers[original]


def _lazy(name: str, shape: tuple[int, ...], read: Callable[[str], Tensor]) -> ir.LazyTensor:
    return ir.LazyTensor(
        lambda: ir.Tensor(read(name).numpy()), ir.DataType.FLOAT, ir.Shape(shape), name=name
    )
