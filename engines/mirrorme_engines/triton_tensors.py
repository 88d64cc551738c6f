"""Tensors as Triton gets them: raw bytes, in its messages or in memory that both sides see."""

# Triton's generated messages have no type stubs.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2

from mirrorme_engines.engine import Tensors
from mirrorme_engines.errors import EngineFault
from mirrorme_engines.manifest import DType, EngineSpec, TensorSpec
from mirrorme_engines.triton_region import Region

DATATYPES: dict[DType, str] = {"uint8": "UINT8", "int64": "INT64", "float32": "FP32"}
_REGION = "shared_memory_region"
_ALIGNMENT_BYTES = 64


class _Parametrised(Protocol):
    """Inputs and outputs of a request."""

    @property
    def parameters(self) -> Any: ...


def wire_shape(tensor: TensorSpec, batch_size: int) -> tuple[int, ...]:
    """Shape on the wire. Triton has no tensors of the batch dimension alone: they are [B, 1]."""
    return (batch_size, *(tensor.dims or (1,)))


@dataclass(frozen=True)
class Layout:
    """Where the tensors of one call lie in a region."""

    offsets: dict[str, int]
    sizes: dict[str, int]
    num_bytes: int

    @classmethod
    def of(cls, spec: EngineSpec, batch_size: int) -> Layout:
        """Inputs, then outputs, in the spec's order."""
        offsets: dict[str, int] = {}
        sizes: dict[str, int] = {}
        end = 0
        for tensor in (*spec.inputs, *spec.outputs):
            offsets[tensor.name] = end
            sizes[tensor.name] = math.prod((batch_size, *tensor.dims)) * _dtype(tensor).itemsize
            end += -(-sizes[tensor.name] // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES
        return cls(offsets, sizes, end)


def encode_request(
    spec: EngineSpec,
    model_version: str,
    inputs: Tensors,
    batch_size: int,
    region: Region | None = None,
) -> service_pb2.ModelInferRequest:
    """Makes the request of a checked call, its tensors in the message or in a region."""
    request = service_pb2.ModelInferRequest(model_name=spec.name, model_version=model_version)
    layout = Layout.of(spec, batch_size)
    for tensor in spec.inputs:
        message = request.inputs.add(
            name=tensor.name,
            datatype=DATATYPES[tensor.dtype],
            shape=wire_shape(tensor, batch_size),
        )
        if region is None:
            request.raw_input_contents.append(inputs[tensor.name].tobytes())
        else:
            region.write(layout.offsets[tensor.name], inputs[tensor.name])
            _point(message, region, layout, tensor)
    for tensor in spec.outputs:
        message = request.outputs.add(name=tensor.name)
        if region is not None:
            _point(message, region, layout, tensor)
    return request


def decode_response(
    spec: EngineSpec,
    response: service_pb2.ModelInferResponse,
    batch_size: int,
    region: Region | None = None,
) -> dict[str, NDArray[np.generic]]:
    """Takes the outputs out of a response, or the request's region, in memory of their own.

    Raises:
        EngineFault: an output is missing, or not of the spec's type and shape.
    """
    positions = {output.name: i for i, output in enumerate(response.outputs)}
    layout = Layout.of(spec, batch_size)
    outputs: dict[str, NDArray[np.generic]] = {}
    for tensor in spec.outputs:
        where = f"{spec.name}: output {tensor.name}"
        position = positions.get(tensor.name)
        if position is None:
            raise EngineFault(f"{where} is not in Triton's response")
        got = response.outputs[position]
        want = wire_shape(tensor, batch_size)
        if got.datatype != DATATYPES[tensor.dtype] or tuple(got.shape) != want:
            raise EngineFault(
                f"{where} is {got.datatype} {list(got.shape)}: "
                f"want {DATATYPES[tensor.dtype]} {list(want)}"
            )
        shape = (batch_size, *tensor.dims)
        blobs = response.raw_output_contents
        raw = blobs[position] if position < len(blobs) else b""
        if region is not None and not raw:
            offset = layout.offsets[tensor.name]
            outputs[tensor.name] = region.read(offset, _dtype(tensor), shape)
            continue
        if len(raw) != layout.sizes[tensor.name]:
            raise EngineFault(f"{where} has {len(raw)} bytes: want {tensor.dtype} {list(want)}")
        outputs[tensor.name] = np.frombuffer(raw, _dtype(tensor)).reshape(shape).copy()
    return outputs


def _point(
    message: _Parametrised,
    region: Region,
    layout: Layout,
    tensor: TensorSpec,
) -> None:
    """Tells the server where a tensor lies."""
    message.parameters[_REGION].string_param = region.name
    message.parameters["shared_memory_offset"].int64_param = layout.offsets[tensor.name]
    message.parameters["shared_memory_byte_size"].int64_param = layout.sizes[tensor.name]


def _dtype(tensor: TensorSpec) -> np.dtype[np.generic]:
    return np.dtype(tensor.dtype)
