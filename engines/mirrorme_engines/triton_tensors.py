"""Tensors as Triton's messages carry them: raw bytes, one blob a tensor."""

# Triton's generated messages have no type stubs.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2

from mirrorme_engines.engine import Tensors
from mirrorme_engines.errors import EngineFault
from mirrorme_engines.manifest import DType, EngineSpec, TensorSpec

DATATYPES: dict[DType, str] = {"uint8": "UINT8", "int64": "INT64", "float32": "FP32"}


def wire_shape(tensor: TensorSpec, batch_size: int) -> tuple[int, ...]:
    """Shape on the wire. Triton has no tensors of the batch dimension alone: they are [B, 1]."""
    return (batch_size, *(tensor.dims or (1,)))


def encode_request(
    spec: EngineSpec, model_version: str, inputs: Tensors, batch_size: int
) -> service_pb2.ModelInferRequest:
    """Makes the request of a checked call."""
    request = service_pb2.ModelInferRequest(model_name=spec.name, model_version=model_version)
    for tensor in spec.inputs:
        request.inputs.add(
            name=tensor.name,
            datatype=DATATYPES[tensor.dtype],
            shape=wire_shape(tensor, batch_size),
        )
        request.raw_input_contents.append(inputs[tensor.name].tobytes())
    for tensor in spec.outputs:
        request.outputs.add(name=tensor.name)
    return request


def decode_response(
    spec: EngineSpec, response: service_pb2.ModelInferResponse, batch_size: int
) -> dict[str, NDArray[np.generic]]:
    """Takes the outputs out of a response, in memory of their own.

    Raises:
        EngineFault: an output is missing, or not of the spec's type and shape.
    """
    positions = {output.name: i for i, output in enumerate(response.outputs)}
    outputs: dict[str, NDArray[np.generic]] = {}
    for tensor in spec.outputs:
        where = f"{spec.name}: output {tensor.name}"
        position = positions.get(tensor.name)
        if position is None or position >= len(response.raw_output_contents):
            raise EngineFault(f"{where} is not in Triton's response")
        got = response.outputs[position]
        want = wire_shape(tensor, batch_size)
        if got.datatype != DATATYPES[tensor.dtype] or tuple(got.shape) != want:
            raise EngineFault(
                f"{where} is {got.datatype} {list(got.shape)}: "
                f"want {DATATYPES[tensor.dtype]} {list(want)}"
            )
        raw = response.raw_output_contents[position]
        dtype = np.dtype(tensor.dtype)
        if len(raw) != math.prod(want) * dtype.itemsize:
            raise EngineFault(f"{where} has {len(raw)} bytes: want {dtype} {list(want)}")
        array = np.frombuffer(raw, dtype).reshape(batch_size, *tensor.dims)
        outputs[tensor.name] = array.copy()
    return outputs
