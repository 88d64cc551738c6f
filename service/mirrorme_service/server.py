"""The gateway's process parts: engines, gRPC server, health, reflection, metrics port.

Starts them in order, and stops them in the reverse order: no new sessions, running ones are told
and end within their grace, then the port, engines and metrics close. Signals are `main`'s.
"""

from __future__ import annotations

import asyncio
import dataclasses
import importlib.metadata
import logging
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import TypeAlias

from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from mirrorme.animate.v1 import animation_pb2_grpc
from mirrorme_engines.engine import EngineSet
from mirrorme_engines.observer import EngineObserver
from mirrorme_engines.open_engines import open_engines

from mirrorme_service.admission import Admission
from mirrorme_service.capacity import measured_capacity
from mirrorme_service.config import ServiceConfig
from mirrorme_service.consent import Consent
from mirrorme_service.engine_calls import EngineCalls
from mirrorme_service.face_detector import FaceDetector
from mirrorme_service.farewell import Drain
from mirrorme_service.grpc_ports import (
    SERVICE_NAME,
    StartError,
    bind,
    new_grpc_server,
    new_health_server,
)
from mirrorme_service.http_port import HttpPort
from mirrorme_service.identity_cache import IdentityCache
from mirrorme_service.jwt_keys import JwtKeys
from mirrorme_service.metrics import Metrics
from mirrorme_service.model import Model
from mirrorme_service.open_store import open_store
from mirrorme_service.picture_decoders import PictureDecoders
from mirrorme_service.picture_format import PictureLimits
from mirrorme_service.picture_process import DecoderBounds
from mirrorme_service.portrait import FaceFinder, PortraitReader
from mirrorme_service.readiness import Readiness, animate_silence
from mirrorme_service.servicer import AnimationServicer
from mirrorme_service.shared_portraits import SharedPortraits
from mirrorme_service.store import Store
from mirrorme_service.takeover import Takeover
from mirrorme_service.traces import Traces
from mirrorme_service.wall_clock import SystemClock, WallClock

log = logging.getLogger(__name__)

# For the last messages and statuses to leave.
_FLUSH_S = 2.0

OpenEngines: TypeAlias = Callable[[ServiceConfig, EngineObserver], Awaitable[EngineSet]]


async def _open_engines(config: ServiceConfig, observer: EngineObserver) -> EngineSet:
    return await open_engines(config.engines, config.engine_options(), observer)


class Server:
    """A running gateway. Made by `start`, ended by `stop`."""

    config: ServiceConfig
    model: Model
    store: Store
    port: int
    metrics_port: int
    health_port: int | None = None
    """Of the plaintext one, where the config asks for it."""

    def __init__(self, config: ServiceConfig, traces: Traces | None = None) -> None:
        """Use `start`."""
        self.config = config
        self.metrics = Metrics()
        self.admission = Admission(config.max_sessions, self.metrics)
        self.drain = Drain()
        self._traces = traces or _open_traces(config)
        self._is_ready = False
        self._grpc = new_grpc_server(config, self.metrics)
        # Bound by the module at run time only.
        self._health = health.aio.HealthServicer()  # pyright: ignore[reportAttributeAccessIssue]
        self._closing = AsyncExitStack()

    @classmethod
    async def start(
        cls,
        config: ServiceConfig,
        open_engines: OpenEngines = _open_engines,
        face_finder: FaceFinder | None = None,
        clock: WallClock | None = None,
        traces: Traces | None = None,
        decoders: PictureDecoders | None = None,
    ) -> Server:
        """Opens what the config says and serves.

        Args:
            config: all settings.
            open_engines: opens the engines; the server closes them.
            face_finder: instead of the bundled one.
            clock: instead of the machine's; it paces and limits sessions.
            traces: instead of those that the config asks for; closed by the server.
            decoders: of portraits, instead of its own; not closed by the server.

        Raises:
            StartError: a port is taken.
            ConfigError: the store cannot be.
            EngineError: the engines cannot be opened.
            AnimationError: the capacity cannot be measured.
        """
        server = cls(config, traces)
        try:
            # Its thread may wait for a collector.
            server._closing.push_async_callback(asyncio.to_thread, server._traces.close)
            server.metrics_port = server._serve_metrics()
            engines = await open_engines(config, server.metrics)
            server._closing.push_async_callback(engines.close)
            server.store = open_store(config, server.metrics)
            server._closing.push_async_callback(server.store.close)
            calls = EngineCalls(config.engine_timeout_s, config.engine_attempts, server.metrics)
            server.model = Model(engines, calls)
            if not config.max_sessions:
                await server._measure_capacity()
            face_finder = face_finder or await asyncio.to_thread(FaceDetector)
            decoders = decoders or server._new_decoders()
            await server._serve(face_finder, decoders, clock or SystemClock())
        except BaseException:
            await server._closing.aclose()
            raise
        return server

    async def stop(self, grace_s: float) -> None:
        """Refuses new sessions at once, waits up to `grace_s` for running ones, closes all.

        The port stays open meanwhile, so that whoever comes is told to go elsewhere.
        """
        self.admission.drain()
        await self._health.enter_graceful_shutdown()
        self._set_ready(False)
        self.drain.begin(grace_s)
        try:
            async with asyncio.timeout(grace_s + _FLUSH_S):
                await self.admission.wait_until_empty()
        except TimeoutError:
            log.warning("%d sessions did not end in time", self.admission.num_active)
        await self._grpc.stop(_FLUSH_S)
        await self._closing.aclose()

    async def _serve(
        self, face_finder: FaceFinder, decoders: PictureDecoders, clock: WallClock
    ) -> None:
        version = importlib.metadata.version("mirrorme")
        identities = self._new_identity_cache(face_finder, decoders)
        servicer = AnimationServicer(
            self.config,
            self.model,
            identities,
            self.admission,
            self.drain,
            Takeover(self.store, self.model, self.metrics, self.config.session_ttl_s),
            self.metrics,
            version,
            clock,
            _open_consent(self.config),
            self._traces,
        )
        animation_pb2_grpc.add_AnimationServiceServicer_to_server(servicer, self._grpc)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._grpc)
        self._describe(version)
        await self._serve_health()
        self.port = bind(self._grpc, self.config, self.metrics)
        self._closing.push_async_callback(self._grpc.stop, None)
        await self._grpc.start()
        readiness = Readiness(
            partial(animate_silence, self.model),
            lambda: self.model.last_chunk_s,
            self._tell_ready,
            period_s=self.config.ready_check_s,
        )
        await readiness.start()
        self._closing.push_async_callback(readiness.stop)

    async def _measure_capacity(self) -> None:
        num_sessions = await measured_capacity(self.model)
        log.info("measured: %d sessions in real time; --max-sessions says otherwise", num_sessions)
        if self.config.platform == "triton":
            log.warning(
                "that is what all Triton servers carry together: other gateways measure the same "
                "servers, so give each its part by --max-sessions"
            )
        self.config = dataclasses.replace(self.config, max_sessions=num_sessions)
        self.admission.limit(num_sessions)

    async def _tell_ready(self, is_ready: bool) -> None:
        answers = health_pb2.HealthCheckResponse
        for service in ("", SERVICE_NAME):
            await self._health.set(service, answers.SERVING if is_ready else answers.NOT_SERVING)
        self._set_ready(is_ready and not self.admission.is_draining)

    def _set_ready(self, is_ready: bool) -> None:
        self._is_ready = is_ready
        self.metrics.ready.set(is_ready)

    async def _serve_health(self) -> None:
        if self.config.health_port < 0:
            return
        server, self.health_port = new_health_server(self.config, self._health)
        self._closing.push_async_callback(server.stop, None)
        await server.start()

    def _new_decoders(self) -> PictureDecoders:
        bounds = DecoderBounds.of_pixels(self.config.max_portrait_pixels)
        decoders = PictureDecoders(bounds, self.metrics)
        self._closing.push_async_callback(asyncio.to_thread, decoders.close)
        return decoders

    def _new_identity_cache(
        self, face_finder: FaceFinder, decoders: PictureDecoders
    ) -> IdentityCache:
        config, manifest = self.config, self.model.manifest
        reader = PortraitReader(
            manifest.video.width_px,
            manifest.video.height_px,
            face_finder,
            decoders,
            PictureLimits(config.max_portrait_bytes, config.max_portrait_pixels),
        )
        self._closing.callback(reader.close)
        return IdentityCache(
            reader.read,
            self.model.encode_identity,
            manifest.weights_sha256,
            max_bytes=config.identity_cache_bytes,
            ttl_s=config.portrait_ttl_s,
            observer=self.metrics,
            shared=SharedPortraits(self.store, self.model.latent_shape, config.portrait_ttl_s),
        )

    def _serve_metrics(self) -> int:
        config, loop = self.config, asyncio.get_running_loop()
        self.metrics.tasks.set_function(lambda: len(asyncio.all_tasks(loop)))
        http = HttpPort(self.metrics.registry, lambda: self._is_ready)
        try:
            port = http.start(config.host, config.metrics_port)
        except OSError as error:
            raise StartError(
                f"cannot serve metrics on {config.host}:{config.metrics_port}: {error.strerror}: "
                "choose --metrics-port"
            ) from error
        self._closing.push_async_callback(http.stop)
        return port

    def _describe(self, version: str) -> None:
        manifest = self.model.manifest
        self.metrics.build_info.labels(
            version,
            manifest.preset,
            manifest.weights_sha256,
            self.model.platform,
            str(manifest.trained).lower(),
        ).set(1)


def _open_consent(config: ServiceConfig) -> Consent | None:
    if config.consent_keys is None:
        return None
    try:
        return Consent(JwtKeys(config.consent_keys))
    except (OSError, ValueError) as error:
        raise StartError(f"cannot verify consent: {error}") from error


def _open_traces(config: ServiceConfig) -> Traces:
    if not config.traces_endpoint:
        return Traces()
    try:
        from mirrorme_service.otel_traces import open_otlp_traces
    except ModuleNotFoundError as error:
        message = f"traces need {error.name}: pip install 'mirrorme[otel]'"
        raise StartError(message) from error
    return open_otlp_traces(config.traces_endpoint, importlib.metadata.version("mirrorme"))
