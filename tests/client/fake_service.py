"""A hand-written AnimationService that follows the contract without a model.

Its frames are grey, and white where the speech of the frame is loud, so that a test can see which
speech a frame belongs to.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from fractions import Fraction

import av
import grpc
import grpc.aio
import numpy as np
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status
from mirrorme.animate.v1 import animation_pb2 as pb
from mirrorme.animate.v1.animation_pb2_grpc import (
    AnimationServiceServicer,
    add_AnimationServiceServicer_to_server,
)

FRAME_PX = 64
CHUNK_FRAMES = 8
FRAME_RATE = 24
GREY, WHITE = 40, 235
SESSION_ID = "fake-session"
PORTRAIT_ID = "0123456789abcdef" * 4


@dataclass
class Behaviour:
    """What the service does other than serve."""

    refuse: status_pb2.Status | None = None
    """Instead of `started`."""
    fail: status_pb2.Status | None = None
    """After `fail_after_frames` frames."""
    fail_after_frames: int = 8
    end_without_summary: bool = False
    start_with_frames: bool = False
    trained: bool = True
    delay_s: float = 0.0
    """After each response."""
    fail_unary: list[status_pb2.Status] = field(default_factory=list)
    """The next unary calls fail so, one each."""


@dataclass
class Received:
    """What a session got."""

    config: pb.SessionConfig
    metadata: dict[str, str | bytes]
    audio: bytearray = field(default_factory=bytearray)
    largest_message_bytes: int = 0
    requests: list[pb.StreamAnimateRequest] = field(default_factory=list)
    """All but audio, in order."""
    audio_bytes_before: list[int] = field(default_factory=list)
    """For each of `requests`, the audio that came before it."""
    cancelled: bool = False


class FakeAnimationService(AnimationServiceServicer):
    """Serves sessions one after the other or side by side, and keeps what they received."""

    def __init__(self, behaviour: Behaviour | None = None) -> None:
        self.behaviour = behaviour or Behaviour()
        self.sessions: list[Received] = []
        self.num_unary_calls = 0

    async def GetCapabilities(self, request, context):
        await self._fail_unary(context)
        return pb.GetCapabilitiesResponse(
            presets=[
                pb.PresetCapabilities(
                    model=self._model(),
                    frame_size=_frame_size(),
                    timing=_timing(),
                    algorithmic_latency_ms=353,
                    controls=[
                        pb.ControlInfo(
                            name="head_yaw",
                            unit="degree",
                            range=pb.FloatRange(min=-30, max=30),
                        )
                    ],
                    expression=pb.FloatRange(min=0, max=2, default=1),
                )
            ],
            limits=pb.Limits(
                max_sessions=8,
                max_portrait_bytes=10 << 20,
                max_idle_time=duration_pb2.Duration(seconds=60),
            ),
            encodings=[pb.FRAME_ENCODING_JPEG, pb.FRAME_ENCODING_H264],
            pacings=[pb.PACING_AS_FAST_AS_POSSIBLE],
            unimplemented_fields=["interrupt"],
            service_version="9.9",
        )

    async def RegisterPortrait(self, request, context):
        await self._fail_unary(context)
        if not request.image.startswith(b"\x89PNG"):
            message = "image is not a PNG, JPEG or WebP file"
            await context.abort_with_status(
                rpc_status.to_status(invalid(message, "PICTURE_TYPE", "image"))
            )
        return pb.RegisterPortraitResponse(portrait=_portrait(), already_known=True)

    async def StreamAnimate(self, request_iterator, context):
        requests = aiter(request_iterator)
        first = await anext(requests)
        received = Received(first.config, dict(context.invocation_metadata()))
        self.sessions.append(received)
        if self.behaviour.refuse is not None:
            await context.abort_with_status(rpc_status.to_status(self.behaviour.refuse))
        session = _Frames(first.config)
        if self.behaviour.start_with_frames:
            yield pb.StreamAnimateResponse(frames=pb.FrameBatch())
        yield pb.StreamAnimateResponse(started=self._started(first.config))
        try:
            async for request in requests:
                received.largest_message_bytes = max(
                    received.largest_message_bytes, request.ByteSize()
                )
                if request.HasField("audio"):
                    received.audio += request.audio.data
                else:
                    received.requests.append(request)
                    received.audio_bytes_before.append(len(received.audio))
                    if request.HasField("end_of_utterance"):
                        yield session.event(utterance_finished=pb.UtteranceFinished(utterance=1))
                for response in session.responses(received.audio, to_end=False):
                    yield response
                    await self._after(response, context)
            for response in session.responses(received.audio, to_end=True):
                yield response
                await self._after(response, context)
        except (GeneratorExit, asyncio.CancelledError):
            received.cancelled = True
            raise
        if not self.behaviour.end_without_summary:
            summary = pb.SessionSummary(num_frames=session.num_frames)
            summary.first_frame_latency.FromMilliseconds(12)
            yield pb.StreamAnimateResponse(summary=summary)

    def _started(self, config: pb.SessionConfig) -> pb.SessionStarted:
        effective = pb.SessionConfig()
        effective.CopyFrom(config)
        effective.portrait.portrait_id = PORTRAIT_ID
        effective.output.encoding = config.output.encoding or pb.FRAME_ENCODING_JPEG
        return pb.SessionStarted(
            session_id=SESSION_ID,
            effective_config=effective,
            model=self._model(),
            frame_size=_frame_size(),
            timing=_timing(),
            portrait=_portrait(),
        )

    def _model(self) -> pb.ModelVersion:
        return pb.ModelVersion(
            preset="fake", weights_sha256="ab" * 32, trained=self.behaviour.trained
        )

    async def _fail_unary(self, context) -> None:
        self.num_unary_calls += 1
        if self.behaviour.fail_unary:
            status = self.behaviour.fail_unary.pop(0)
            await context.abort_with_status(rpc_status.to_status(status))

    async def _after(self, response: pb.StreamAnimateResponse, context) -> None:
        frames = response.frames
        await asyncio.sleep(self.behaviour.delay_s)
        num_frames = frames.first_frame_index + len(frames.frames)
        if self.behaviour.fail and num_frames >= self.behaviour.fail_after_frames:
            await context.abort_with_status(rpc_status.to_status(self.behaviour.fail))


class _Frames:
    """Makes frames of the audio received so far."""

    def __init__(self, config: pb.SessionConfig) -> None:
        self.num_frames = 0
        self._config = config
        self._rate_hz = config.audio_format.sample_rate_hz
        self._is_float = config.audio_format.encoding == pb.AUDIO_ENCODING_PCM_F32LE
        self._channels = config.audio_format.num_channels or 1
        self._encoder: av.VideoCodecContext | None = None

    def responses(self, audio: bytearray, *, to_end: bool):
        dtype = np.dtype("<f4" if self._is_float else "<i2")
        width = dtype.itemsize * self._channels
        samples = np.frombuffer(bytes(audio[: len(audio) // width * width]), dtype)
        scale = 1 if self._is_float else 32768
        mono = samples.reshape(-1, self._channels).mean(axis=1) / scale
        ready = Fraction(len(mono) * FRAME_RATE, self._rate_hz)
        last = -int(-ready // 1) if to_end else int(ready) // CHUNK_FRAMES * CHUNK_FRAMES
        while self.num_frames < last:
            count = min(CHUNK_FRAMES, last - self.num_frames)
            batch = pb.FrameBatch(first_frame_index=self.num_frames, utterance=1)
            for index in range(self.num_frames, self.num_frames + count):
                start, end = (
                    int(Fraction(i * self._rate_hz, FRAME_RATE)) for i in (index, index + 1)
                )
                is_loud = len(mono[start:end]) > 0 and abs(mono[start:end]).max() > 0.25
                data, is_key = self._encode(WHITE if is_loud else GREY, index)
                batch.frames.append(
                    pb.Frame(data=data, sample_index=index * 2000 // 3, is_key_frame=is_key)
                )
            if self._config.include_audio:
                first, end = (i * 2000 // 3 for i in (self.num_frames, self.num_frames + count))
                batch.audio = _at_16k(mono, self._rate_hz)[first:end].tobytes()
            self.num_frames += count
            if batch.first_frame_index == 0:
                yield self.event(utterance_started=pb.UtteranceStarted(utterance=1))
            yield pb.StreamAnimateResponse(frames=batch)

    def event(self, **event) -> pb.StreamAnimateResponse:
        position = {"frame_index": self.num_frames, "sample_index": self.num_frames * 2000 // 3}
        return pb.StreamAnimateResponse(event=pb.SessionEvent(**position, **event))

    def _encode(self, level: int, index: int) -> tuple[bytes, bool]:
        picture = np.full((FRAME_PX, FRAME_PX, 3), level, np.uint8)
        match self._config.output.encoding:
            case pb.FRAME_ENCODING_RGB24:
                return picture.tobytes(), True
            case pb.FRAME_ENCODING_H264:
                self._encoder = self._encoder or _h264_encoder()
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts = index
                (packet,) = self._encoder.encode(frame)
                return bytes(packet), packet.is_keyframe
            case _:
                return _jpeg(picture), True


def _h264_encoder() -> av.VideoCodecContext:
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width = encoder.height = FRAME_PX
    encoder.pix_fmt = "yuv420p"
    encoder.time_base = Fraction(1, FRAME_RATE)
    encoder.options = {"preset": "ultrafast", "tune": "zerolatency", "g": "48"}
    return encoder


def _jpeg(picture: np.ndarray) -> bytes:
    output = io.BytesIO()
    with av.open(output, "w", format="mjpeg") as container:
        stream = container.add_stream("mjpeg", rate=1)
        stream.width, stream.height, stream.pix_fmt = picture.shape[1], picture.shape[0], "yuvj420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return output.getvalue()


def _at_16k(mono: np.ndarray, rate_hz: int) -> np.ndarray:
    times = np.arange(len(mono) * 16000 // rate_hz) * rate_hz / 16000
    return (np.interp(times, np.arange(len(mono)), mono) * 32767).astype("<i2")


def _frame_size() -> pb.FrameSize:
    return pb.FrameSize(width_px=FRAME_PX, height_px=FRAME_PX)


def _timing() -> pb.AudioTiming:
    return pb.AudioTiming(
        sample_rate_hz=16000,
        frame_rate_numerator=FRAME_RATE,
        frame_rate_denominator=1,
        chunk_frames=CHUNK_FRAMES,
    )


def _portrait() -> pb.PortraitInfo:
    return pb.PortraitInfo(
        portrait_id=PORTRAIT_ID,
        source_size=pb.FrameSize(width_px=640, height_px=480),
        crop=pb.CropBox(x_px=80, y_px=0, width_px=480, height_px=480),
    )


def status(code: grpc.StatusCode, message: str, *details: Message) -> status_pb2.Status:
    """A status with details."""
    packed = []
    for detail in details:
        packed.append(any_pb2.Any())
        packed[-1].Pack(detail)
    return status_pb2.Status(code=code.value[0], message=message, details=packed)


def invalid(message: str, reason: str, path: str) -> status_pb2.Status:
    """INVALID_ARGUMENT as the gateway gives it."""
    violation = error_details_pb2.BadRequest.FieldViolation(field=path, description=message)
    return status(
        grpc.StatusCode.INVALID_ARGUMENT,
        message,
        error_details_pb2.ErrorInfo(reason=reason, domain="mirrorme.animate"),
        error_details_pb2.BadRequest(field_violations=[violation]),
    )


def at_capacity(message: str, retry_delay_s: float) -> status_pb2.Status:
    """RESOURCE_EXHAUSTED as the gateway gives it."""
    delay = duration_pb2.Duration()
    delay.FromMilliseconds(round(1000 * retry_delay_s))
    return status(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        message,
        error_details_pb2.ErrorInfo(reason="AT_CAPACITY", domain="mirrorme.animate"),
        error_details_pb2.RetryInfo(retry_delay=delay),
    )


@contextlib.asynccontextmanager
async def serve(service: AnimationServiceServicer, port: int = 0) -> AsyncIterator[str]:
    """Runs the service on this machine; gives its address."""
    server = grpc.aio.server()
    add_AnimationServiceServicer_to_server(service, server)
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)
