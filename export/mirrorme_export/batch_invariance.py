"""Makes a row of a batch bit-identical to the same row alone, where ONNX Runtime would differ."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from onnx_ir import convenience


def mean_by_convolution(model: ir.Model) -> None:
    """Turns float32 means over the channels of `[batch, C, …]` into convolutions of kernel 1.

    ONNX Runtime's CPU reduction drops a leading dimension of 1, and so adds up a batch of one in
    another order than a larger one. A convolution takes each row by itself. Where the leading
    dimension holds frames too, `8 * batch`, it is never 1.
    """
    batch = {str(value.shape[0]) for value in model.graph.inputs if value.shape}
    for node in list(model.graph.all_nodes()):
        if node.op_type == "ReduceMean":
            channels = _channels_meant(node, batch)
            if channels is not None:
                _replace(model, node, channels)


def _channels_meant(node: ir.Node, batch: set[str]) -> int | None:
    """C, if the node is the mean over the channels of `[batch, C, …]`."""
    value, axes = node.inputs[0], node.inputs[1] if len(node.inputs) > 1 else None
    if value is None or value.shape is None or len(value.shape) not in (4, 5) or axes is None:
        return None
    if str(value.shape[0]) not in batch:
        return None
    constant = convenience.get_const_tensor(axes)
    if constant is None or constant.numpy().tolist() not in ([1], [1 - len(value.shape)]):
        return None
    channels = value.shape[1]
    if value.dtype != ir.DataType.FLOAT or not isinstance(channels, int):
        return None
    return channels if node.attributes.get_int("keepdims", 1) else None


def _replace(model: ir.Model, node: ir.Node, channels: int) -> None:
    value, output = node.inputs[0], node.outputs[0]
    assert value is not None and value.shape is not None
    kernel = (1, channels, *(1 for _ in value.shape[2:]))
    # Named after what they replace, so that the same graph gives the same bytes.
    weights = ir.Value(
        name=f"{output.name}_weights",
        const_value=ir.tensor(np.full(kernel, 1 / channels, np.float32)),
    )
    model.graph.register_initializer(weights)
    convolution = ir.node("Conv", [value, weights], name=f"{output.name}_mean")
    convolution.outputs[0].name = convolution.name
    convenience.replace_nodes_and_values(
        model.graph, node, [node], [convolution], [output], [convolution.outputs[0]]
    )
