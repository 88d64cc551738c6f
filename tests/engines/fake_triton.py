"""A Triton server in the test's own process: answers as Triton does, fails as it is told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import grpc
import numpy as np
from mirrorme_engines.manifest import Manifest
from mirrorme_engines.triton_tensors import DATATYPES, wire_shape
from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc

Fail = tuple[grpc.StatusCode, str]


class FakeTriton(service_pb2_grpc.GRPCInferenceServiceServicer):
    """Owns a gRPC server on a port of its own; every output is ones."""

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest
        self.ready = True
        self.fail: Callable[[], Fail | None] = lambda: None
        self.num_calls = 0
        self.num_answered = 0
        self.timeouts_us: list[int] = []
        self.metadata: list[dict[str, str | bytes]] = []
        """Of each call."""
        self.open = asyncio.Event()
        """While it is clear, calls wait."""
        self.open.set()
        self.shared_memory: Path | None = None
        """Where it looks for regions; None: it offers none."""
        self.regions: set[str] = set()
        self.registers = asyncio.Event()
        """While it is clear, regions are registered without an answer."""
        self.registers.set()
        self.port = 0
        self._server: grpc.aio.Server | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def start(self, host: str = "127.0.0.1") -> FakeTriton:
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(self, self._server)
        self.port = self._server.add_insecure_port(f"{host}:{self.port}")
        await self._server.start()
        return self

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(None)
            self._server = None

    async def ServerReady(self, request, context):
        return service_pb2.ServerReadyResponse(ready=self.ready)

    async def ServerMetadata(self, request, context):
        return service_pb2.ServerMetadataResponse(name="triton", version="0.0.0")

    async def ModelMetadata(self, request, context):
        return service_pb2.ModelMetadataResponse(name=request.name, versions=["1"])

    async def ModelConfig(self, request, context):
        spec = next(spec for spec in self.manifest.engines if spec.name == request.name)
        config = model_config_pb2.ModelConfig(name=spec.name, max_batch_size=spec.max_batch_size)
        for tensors, messages in ((spec.inputs, config.input), (spec.outputs, config.output)):
            for tensor in tensors:
                kind = DATATYPES[tensor.dtype]
                message = messages.add(name=tensor.name, dims=tensor.dims or (1,))
                message.data_type = model_config_pb2.DataType.Value(f"TYPE_{kind}")
        for key, value in (
            ("mirrorme_manifest_format", str(self.manifest.format_version)),
            ("mirrorme_weights_sha256", self.manifest.weights_sha256),
            ("mirrorme_engine_sha256", spec.sha256),
        ):
            config.parameters[key].string_value = value
        return service_pb2.ModelConfigResponse(config=config)

    async def SystemSharedMemoryRegister(self, request, context):
        if self.shared_memory is None:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "shared memory is not allowed")
        if not (self.shared_memory / request.key.removeprefix("/")).exists():
            await context.abort(grpc.StatusCode.INTERNAL, "Unable to open shared memory region")
        self.regions.add(request.name)
        await self.registers.wait()
        return service_pb2.SystemSharedMemoryRegisterResponse()

    async def SystemSharedMemoryUnregister(self, request, context):
        self.regions.discard(request.name)
        return service_pb2.SystemSharedMemoryUnregisterResponse()

    async def SystemSharedMemoryStatus(self, request, context):
        response = service_pb2.SystemSharedMemoryStatusResponse()
        for name in self.regions:
            response.regions[name].name = name
        return response

    async def ModelInfer(self, request, context):
        self.num_calls += 1
        self.metadata.append(dict(context.invocation_metadata()))
        self.timeouts_us.append(request.parameters["timeout"].int64_param)
        if (failure := self.fail()) is not None:
            await context.abort(*failure)
        await self.open.wait()
        spec = next(spec for spec in self.manifest.engines if spec.name == request.model_name)
        batch_size = request.inputs[0].shape[0]
        response = service_pb2.ModelInferResponse(model_name=spec.name)
        for tensor in spec.outputs:
            shape = wire_shape(tensor, batch_size)
            response.outputs.add(name=tensor.name, datatype=DATATYPES[tensor.dtype], shape=shape)
            ones = np.ones(shape, tensor.dtype).tobytes()
            wanted = next(output for output in request.outputs if output.name == tensor.name)
            if "shared_memory_region" not in wanted.parameters:
                response.raw_output_contents.append(ones)
                continue
            name = wanted.parameters["shared_memory_region"].string_param
            if name not in self.regions:
                words = f"Unable to find shared memory region: '{name}'"
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, words)
            assert self.shared_memory is not None
            with (self.shared_memory / name).open("r+b") as file:
                file.seek(wanted.parameters["shared_memory_offset"].int64_param)
                file.write(ones)
            response.raw_output_contents.append(b"")
        self.num_answered += 1
        return response
