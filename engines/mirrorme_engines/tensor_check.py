"""Checks of a call's tensors against an engine's spec: names, types, shapes, numbers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mirrorme_engines.engine import Tensors
from mirrorme_engines.errors import EngineFault, InvalidTensor
from mirrorme_engines.manifest import EngineSpec, TensorSpec


def check_inputs(spec: EngineSpec, inputs: Tensors) -> int:
    """Returns the batch size that all inputs share.

    Raises:
        InvalidTensor: with what was got and what the engine wants.
    """
    _check_names(spec, inputs)
    sizes = {tensor.name: _check_input(spec, tensor, inputs[tensor.name]) for tensor in spec.inputs}
    if len(set(sizes.values())) != 1:
        listed = ", ".join(f"{name} {size}" for name, size in sizes.items())
        raise InvalidTensor(f"{spec.name}: inputs differ in batch size: {listed}")
    batch_size = next(iter(sizes.values()))
    if not 1 <= batch_size <= spec.max_batch_size:
        raise InvalidTensor(
            f"{spec.name}: batch size {batch_size}: want 1 to {spec.max_batch_size}"
        )
    return batch_size


def check_outputs(
    spec: EngineSpec, outputs: dict[str, NDArray[np.generic]], batch_size: int
) -> None:
    """Refuses outputs that are not what the spec says, or hold NaN or infinity.

    Raises:
        EngineFault: naming the output.
    """
    for tensor in spec.outputs:
        array = outputs[tensor.name]
        want = (batch_size, *tensor.dims)
        if array.shape != want or array.dtype != np.dtype(tensor.dtype):
            raise EngineFault(
                f"{spec.name}: output {tensor.name} is {array.dtype} {list(array.shape)}: "
                f"want {tensor.dtype} {list(want)}"
            )
        if tensor.dtype == "float32" and not np.isfinite(array).all():
            raise EngineFault(f"{spec.name}: output {tensor.name} holds NaN or infinity")


def _check_names(spec: EngineSpec, inputs: Tensors) -> None:
    want = [tensor.name for tensor in spec.inputs]
    if missing := [name for name in want if name not in inputs]:
        raise InvalidTensor(f"{spec.name}: lacks inputs: {', '.join(missing)}")
    if unknown := sorted(set(inputs) - set(want)):
        raise InvalidTensor(
            f"{spec.name}: unknown inputs: {', '.join(unknown)}: want {', '.join(want)}"
        )


def _check_input(spec: EngineSpec, tensor: TensorSpec, array: object) -> int:
    where = f"{spec.name}: input {tensor.name}"
    want = f"{tensor.dtype} [B{''.join(f', {dim}' for dim in tensor.dims)}]"
    if not isinstance(array, np.ndarray):
        raise InvalidTensor(f"{where} is a {type(array).__name__}: want a numpy array, {want}")
    if array.dtype != np.dtype(tensor.dtype) or array.shape[1:] != tensor.dims or not array.ndim:
        raise InvalidTensor(f"{where} is {array.dtype} {list(array.shape)}: want {want}")
    return array.shape[0]
