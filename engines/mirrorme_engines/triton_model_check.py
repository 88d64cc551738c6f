"""Whether a Triton server serves the engines of a manifest: weights, types, shapes, versions."""

# Triton's generated messages have no type stubs.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Protocol

import grpc
from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc

from mirrorme_engines.errors import EngineUnavailable, ManifestError
from mirrorme_engines.manifest import DType, EngineSpec, Manifest, TensorSpec

_TYPES: dict[DType, str] = {"uint8": "TYPE_UINT8", "int64": "TYPE_INT64", "float32": "TYPE_FP32"}


class _Tensor(Protocol):
    """What inputs and outputs of a model's configuration share."""

    @property
    def name(self) -> str: ...
    @property
    def data_type(self) -> int: ...
    @property
    def dims(self) -> list[int]: ...


def model_version(spec: EngineSpec) -> str:
    """The version in `<name>/<version>/<file>`: the folder's name is the model's version.

    Raises:
        ManifestError: the file does not lie as in a model repository.
    """
    match PurePosixPath(spec.file).parts:
        case (name, version, _) if name == spec.name and version.isdecimal():
            return version
    raise ManifestError(f"engine file {spec.file!r}: Triton wants {spec.name}/<version>/<file>")


async def check_server(
    stub: service_pb2_grpc.GRPCInferenceServiceStub,
    address: str,
    manifest: Manifest,
    timeout_s: float,
) -> str:
    """Compares a server with the manifest. Returns Triton's version.

    Raises:
        ManifestError: the server is well and serves something else; names both sides.
        EngineUnavailable: the server does not answer, or is not ready yet.
    """
    try:
        ready = await stub.ServerReady(service_pb2.ServerReadyRequest(), timeout=timeout_s)
        if not ready.ready:
            raise EngineUnavailable(f"Triton at {address} is not ready yet")
        metadata = await stub.ServerMetadata(service_pb2.ServerMetadataRequest(), timeout=timeout_s)
        models: dict[str, list[str]] = {}
        for spec in manifest.engines:
            for difference in await _compare_engine(stub, manifest, spec, timeout_s):
                models.setdefault(difference, []).append(spec.name)
    except grpc.aio.AioRpcError as error:
        raise EngineUnavailable(
            f"Triton at {address}: {error.code().name}: {error.details()}"
        ) from error
    if models:
        told = [f"model {', '.join(names)}: {text}" for text, names in models.items()]
        raise ManifestError(
            f"Triton at {address} does not serve the engines of this manifest "
            f"(preset {manifest.preset}): {'; '.join(told)}. Give both the same export"
        )
    return metadata.version


async def _compare_engine(
    stub: service_pb2_grpc.GRPCInferenceServiceStub,
    manifest: Manifest,
    spec: EngineSpec,
    timeout_s: float,
) -> list[str]:
    version = model_version(spec)
    try:
        metadata = await stub.ModelMetadata(
            service_pb2.ModelMetadataRequest(name=spec.name), timeout=timeout_s
        )
    except grpc.aio.AioRpcError as error:
        if error.code() is not grpc.StatusCode.NOT_FOUND:
            raise
        return ["missing on the server"]
    if version not in metadata.versions:
        return [
            f"the server has versions {', '.join(metadata.versions)}, "
            f"the manifest version {version}"
        ]
    response = await stub.ModelConfig(
        service_pb2.ModelConfigRequest(name=spec.name, version=version), timeout=timeout_s
    )
    return compare_config(manifest, spec, response.config)


def compare_config(
    manifest: Manifest, spec: EngineSpec, config: model_config_pb2.ModelConfig
) -> list[str]:
    """Every difference that would make calls fail, or frames differ."""
    differences: list[str] = []
    for key, noun, want in (
        ("mirrorme_manifest_format", "manifest format", str(manifest.format_version)),
        ("mirrorme_weights_sha256", "weights", manifest.weights_sha256),
        ("mirrorme_engine_sha256", "ONNX file", spec.sha256),
    ):
        got = config.parameters[key].string_value if key in config.parameters else "not said"
        if got != want:
            differences.append(f"{noun}: the server has {got}, the manifest {want}")
            # Other weights are other files; one difference says enough.
            break
    if config.max_batch_size < spec.max_batch_size:
        differences.append(
            f"max_batch_size: the server has {config.max_batch_size}, "
            f"the manifest {spec.max_batch_size}"
        )
    for kind, got, want in (
        ("inputs", sorted(map(_describe, config.input)), sorted(map(_want, spec.inputs))),
        ("outputs", sorted(map(_describe, config.output)), sorted(map(_want, spec.outputs))),
    ):
        if got != want:
            differences.append(
                f"{kind}: the server has {', '.join(got)}, the manifest {', '.join(want)}"
            )
    return differences


def _describe(tensor: _Tensor) -> str:
    kind = model_config_pb2.DataType.Name(tensor.data_type)
    return f"{tensor.name} {kind} {list(tensor.dims)}"


def _want(tensor: TensorSpec) -> str:
    return f"{tensor.name} {_TYPES[tensor.dtype]} {list(tensor.dims or (1,))}"
