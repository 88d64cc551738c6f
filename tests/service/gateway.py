"""A real gateway over fake engines on a free port, and a plain client of it, for tests."""

from __future__ import annotations

import asyncio
import atexit
import functools
import io
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from mirrorme.animate.v1 import animation_pb2 as pb
from mirrorme.animate.v1 import animation_pb2_grpc
from mirrorme_engines.engine import EngineSet
from mirrorme_engines.fake_engine import FakeEngineSet, fake_engine_set
from mirrorme_engines.manifest import Manifest
from mirrorme_engines.observer import EngineObserver
from mirrorme_service.config import ServiceConfig
from mirrorme_service.face_detector import Face
from mirrorme_service.picture import Picture
from mirrorme_service.picture_decoders import PictureDecoders
from mirrorme_service.portrait import FaceFinder
from mirrorme_service.server import Server
from mirrorme_service.traces import Traces
from mirrorme_service.wall_clock import WallClock
from PIL import Image

SECOND = 16_000
"""Samples of it, at the rate that sessions here have unless they say otherwise."""
Requests = Iterable[pb.StreamAnimateRequest] | AsyncIterator[pb.StreamAnimateRequest]


async def until(holds: Callable[[], object], timeout_s: float = 10.0) -> None:
    """Waits until something holds."""
    async with asyncio.timeout(timeout_s):
        while True:
            if holds():
                return
            await asyncio.sleep(0.005)


class NoFaces:
    """Finds no face: tests here use crop modes that look for none."""

    def detect(self, _picture: Picture) -> list[Face]:
        return []


@dataclass(frozen=True)
class Gateway:
    """A running gateway, its engines, and a stub of a client."""

    server: Server
    engines: FakeEngineSet
    channel: grpc.aio.Channel
    stub: Any

    def metric(self, name: str, **labels: str) -> float:
        """The value of a metric; 0 before it was first set."""
        return self.server.metrics.registry.get_sample_value(name, labels) or 0.0

    async def until_idle(self) -> None:
        """Waits until no session holds a place."""
        await until(lambda: not self.server.admission.num_active)


@asynccontextmanager
async def running_gateway(
    manifest: Manifest | None = None,
    face_finder: FaceFinder | None = None,
    clock: WallClock | None = None,
    traces: Traces | None = None,
    decoders: PictureDecoders | None = None,
    **settings: Any,
) -> AsyncIterator[Gateway]:
    """Starts a gateway with settings of ServiceConfig, and stops it."""
    opened = []

    async def open_fakes(config: ServiceConfig, observer: EngineObserver) -> EngineSet:
        batch = config.engine_options().batch
        opened.append(fake_engine_set(manifest, options=batch, observer=observer))
        return opened[0]

    config = ServiceConfig(**{"port": 0, "metrics_port": 0, "max_sessions": 8, **settings})
    server = await Server.start(
        config,
        open_fakes,
        face_finder or NoFaces(),
        clock,
        traces,
        decoders or shared_decoders(),
    )
    engines = opened[0]
    try:
        async with new_channel(server) as channel:
            stub = animation_pb2_grpc.AnimationServiceStub(channel)
            yield Gateway(server, engines, channel, stub)
    finally:
        for engine in engines.engines:
            engine.faults.release()
        await server.stop(0)


@functools.cache
def shared_decoders() -> PictureDecoders:
    """Processes that decode pictures for all gateways of a test run: each takes time to start."""
    decoders = PictureDecoders()
    atexit.register(decoders.close)
    return decoders


def new_channel(server: Server) -> grpc.aio.Channel:
    """A channel of its own connection."""
    options = (
        ("grpc.max_receive_message_length", -1),
        ("grpc.max_send_message_length", -1),
        ("grpc.use_local_subchannel_pool", 1),
    )
    return grpc.aio.insecure_channel(f"127.0.0.1:{server.port}", options)


@dataclass
class Animation:
    """All that a session sent."""

    started: pb.SessionStarted | None = None
    batches: list[pb.FrameBatch] = field(default_factory=list)
    events: list[pb.SessionEvent] = field(default_factory=list)
    order: list[str] = field(default_factory=list)
    """Kinds of the responses, as they came."""
    summary: pb.SessionSummary | None = None

    @property
    def frames(self) -> list[pb.Frame]:
        return [frame for batch in self.batches for frame in batch.frames]

    @property
    def pixels(self) -> list[bytes]:
        return [frame.data for frame in self.frames]

    def take(self, response: pb.StreamAnimateResponse) -> None:
        kind = response.WhichOneof("message")
        self.order.append(kind)
        match kind:
            case "started":
                self.started = response.started
            case "frames":
                self.batches.append(response.frames)
            case "event":
                self.events.append(response.event)
            case "summary":
                self.summary = response.summary


async def animate(stub: Any, requests: Requests) -> Animation:
    """Runs a session to its end."""
    animation = Animation()
    async for response in stub.StreamAnimate(requests):
        animation.take(response)
    return animation


@dataclass(frozen=True)
class Refusal:
    """An error as a client sees it."""

    status: str
    message: str
    reason: str
    field: str
    details: tuple[str, ...]
    """Types of the `google.rpc` details."""
    retry_delay_s: float | None


async def refusal(stub: Any, requests: Requests) -> Refusal:
    """Runs a session that must fail."""
    try:
        await animate(stub, requests)
    except grpc.aio.AioRpcError as error:
        return as_refusal(error)
    raise AssertionError("the session did not fail")


def as_refusal(error: grpc.aio.AioRpcError) -> Refusal:
    """The error's details."""
    status = rpc_status.from_call(error)  # pyright: ignore[reportArgumentType]
    details = list(status.details) if status else []
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    for detail in details:
        detail.Unpack(info)
        detail.Unpack(retry)
    delay = retry.retry_delay.ToTimedelta().total_seconds()
    return Refusal(
        status=error.code().name,
        message=error.details() or "",
        reason=info.reason,
        field=info.metadata.get("field", ""),
        details=tuple(detail.TypeName() for detail in details),
        retry_delay_s=delay or None,
    )


def portrait_png(seed: int = 0, size: tuple[int, int] = (64, 64)) -> bytes:
    """A small picture, another one for each seed."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def session_config(**changes: Any) -> pb.SessionConfig:
    """A valid config: raw frames of a picture, 16-bit audio at 16 kHz, a seed."""
    settings = {
        "portrait": pb.PortraitSource(image=portrait_png(), crop_mode=pb.CROP_MODE_CENTER),
        "audio_format": pb.AudioFormat(encoding=pb.AUDIO_ENCODING_PCM_S16LE, sample_rate_hz=16_000),
        "output": pb.OutputFormat(encoding=pb.FRAME_ENCODING_RGB24),
        "seed": 7,
    }
    return pb.SessionConfig(**{**settings, **changes})


def config(**changes: Any) -> pb.StreamAnimateRequest:
    """A first message."""
    return pb.StreamAnimateRequest(config=session_config(**changes))


def audio(data: bytes) -> pb.StreamAnimateRequest:
    """One message of audio."""
    return pb.StreamAnimateRequest(audio=pb.AudioChunk(data=data))


def ack(frame: int) -> pb.StreamAnimateRequest:
    return pb.StreamAnimateRequest(ack=pb.FrameAck(last_frame_index=frame))


def speech(num_samples: int, seed: int = 0) -> bytes:
    """Noise of changing loudness, 16 bits."""
    rng = np.random.default_rng(seed)
    loudness = np.repeat(rng.random(num_samples // 800 + 1), 800)[:num_samples]
    return (rng.normal(0, 4000, num_samples) * loudness).astype("<i2").tobytes()


def cut(data: bytes, sizes: Sequence[int]) -> list[bytes]:
    """The data in pieces of these sizes, the rest in a last one."""
    pieces, start = [], 0
    for size in sizes:
        pieces.append(data[start : start + size])
        start += size
    return [*pieces, data[start:]]


END_OF_UTTERANCE = pb.StreamAnimateRequest(end_of_utterance=pb.EndOfUtterance())
