"""One session: tasks in a row over bounded queues, from the client's messages to the frames sent.

    reader -> plans -> denoiser -> latents -> decoder -> frames -> encoder -> responses -> writer

Each waits for the one after it, so a client that reads slowly slows the whole row down to its own
audio, and nothing grows. All end together: with the stream, with the first error, or cancelled.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeAlias

from mirrorme.animate.v1 import animation_pb2 as pb

from mirrorme_service.audio_input import AudioInput
from mirrorme_service.config import ServiceConfig
from mirrorme_service.delivery import Delivery
from mirrorme_service.errors import TimedOut
from mirrorme_service.frame_encoder import open_frame_encoder
from mirrorme_service.frame_packer import FramePacker
from mirrorme_service.generator import ChunkPlan, FrameChunk, Generator, LatentChunk
from mirrorme_service.intake import Intake
from mirrorme_service.latent_history import Latents
from mirrorme_service.metrics import Metrics
from mirrorme_service.model import Model, Strengths
from mirrorme_service.served_fields import check_served, unserved_fields
from mirrorme_service.session_counts import SessionCounts
from mirrorme_service.session_state import SessionState

Send: TypeAlias = Callable[[pb.StreamAnimateResponse], Awaitable[None]]

# A chunk at each step, so that all steps work at once; what is ahead of that only waits.
_MAX_CHUNKS = 1
_MAX_RESPONSES = 4


class Session:
    """The life of one stream once its config is accepted. Made and run once."""

    def __init__(
        self,
        config: ServiceConfig,
        model: Model,
        metrics: Metrics,
        started: pb.SessionStarted,
        identity: Latents,
    ) -> None:
        """`started` holds the config in force, and is the first response."""
        settings, clock = started.effective_config, model.clock
        # 1 is as trained: for a model that lets nobody choose.
        strengths = Strengths(
            expression=settings.expression if settings.HasField("expression") else 1.0,
            guidance=settings.guidance if settings.HasField("guidance") else 1.0,
        )
        self._state = SessionState.start(
            model, seed=settings.seed, strengths=strengths, identity=identity
        )
        self._started = started
        self.counts = SessionCounts()
        self._unserved = unserved_fields(model.manifest)
        self._max_idle_s = config.max_idle_s
        self._active_s = time.monotonic()
        self._is_writing = False

        max_plans = max(1, int(config.max_buffered_audio_s * clock.frame_rate / clock.chunk_frames))
        self._plans: asyncio.Queue[ChunkPlan | None] = asyncio.Queue(max_plans)
        self._latents: asyncio.Queue[LatentChunk | None] = asyncio.Queue(_MAX_CHUNKS)
        self._frames: asyncio.Queue[FrameChunk | None] = asyncio.Queue(_MAX_CHUNKS)
        self._responses: asyncio.Queue[pb.StreamAnimateResponse | None]
        self._responses = asyncio.Queue(_MAX_RESPONSES)

        audio = AudioInput(settings.audio_format)
        self._intake = Intake(model, config, self._state, audio, self._plans, self.counts)
        self._generator = Generator(model, self._state, metrics)
        size, encoding = started.frame_size, settings.output.encoding
        self._encoder = open_frame_encoder(
            settings.output, size.width_px, size.height_px, clock.frame_rate
        )
        packer = FramePacker(clock, encoding, include_audio=settings.include_audio)
        self._delivery = Delivery(
            clock, self._state, self._encoder, packer, encoding, self.counts, metrics
        )

    async def run(self, requests: AsyncIterator[pb.StreamAnimateRequest], send: Send) -> None:
        """Animates what `requests` bring until they end; sends everything, the summary last.

        Raises:
            ExceptionGroup: of what the tasks raised.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._read(requests), name="reader")
                tasks.create_task(self._denoise(), name="denoiser")
                tasks.create_task(self._decode(), name="decoder")
                tasks.create_task(self._encode(), name="encoder")
                watchdog = tasks.create_task(self._watch(), name="watchdog")
                await self._write(send)
                watchdog.cancel()
        finally:
            self._encoder.close()

    async def _read(self, requests: AsyncIterator[pb.StreamAnimateRequest]) -> None:
        async for request in requests:
            self._active_s = time.monotonic()
            check_served(request, self._unserved)
            await self._intake.take(request)
        await self._intake.finish()

    async def _denoise(self) -> None:
        while (plan := await self._plans.get()) is not None:
            chunk = await self._generator.denoise(plan)
            if chunk is not None:
                await self._latents.put(chunk)
        await self._latents.put(None)

    async def _decode(self) -> None:
        while (chunk := await self._latents.get()) is not None:
            frames = await self._generator.decode(chunk)
            self.counts.chunk_times_s.append(frames.engine_s)
            await self._frames.put(frames)
        await self._frames.put(None)

    async def _encode(self) -> None:
        while (chunk := await self._frames.get()) is not None:
            for response in await self._delivery.responses(chunk):
                await self._responses.put(response)
        for response in self._delivery.finish():
            await self._responses.put(response)
        await self._responses.put(None)

    async def _write(self, send: Send) -> None:
        await self._send(send, pb.StreamAnimateResponse(started=self._started))
        while (response := await self._responses.get()) is not None:
            await self._send(send, response)
            if response.HasField("frames"):
                self._delivery.sent(response.frames)
        summary = self.counts.summary(self._state)
        await self._send(send, pb.StreamAnimateResponse(summary=summary))

    async def _send(self, send: Send, response: pb.StreamAnimateResponse) -> None:
        self._is_writing = True
        await send(response)
        self._is_writing = False
        self._active_s = time.monotonic()

    async def _watch(self) -> None:
        """Ends a session in which nothing moves."""
        while True:
            left_s = self._active_s + self._max_idle_s - time.monotonic()
            if left_s <= 0:
                raise self._idle_error()
            await asyncio.sleep(left_s)

    def _idle_error(self) -> TimedOut:
        waited = f"for {self._max_idle_s:g} s"
        if self._is_writing:
            message = f"nothing could be sent {waited}: read the responses"
            return TimedOut("CLIENT_NOT_READING", message)
        message = f"no request came {waited}: open a session when there is speech"
        return TimedOut("SESSION_IDLE", message)
