"""The two tasks that make a session's chunks: planned ones to latents, those to frames in a buffer.

They hand on one chunk at a time, so a buffer that is full holds both.
"""

from __future__ import annotations

import asyncio

from mirrorme_service.chunk_plan import LatentChunk, Planner
from mirrorme_service.frame_buffer import FrameBuffer
from mirrorme_service.generator import Generator
from mirrorme_service.metrics import Metrics
from mirrorme_service.model import Model
from mirrorme_service.session_counts import SessionCounts
from mirrorme_service.session_state import SessionState

# Latents that wait: with the chunk at each step, both steps work at once.
_MAX_CHUNKS = 1


class ChunkWork:
    """Runs between `start` and `stop`, any number of times, each time from the state as it is.

    Args:
        buffer: gets the frames; it is reopened at each start.
        counts: told of chunks made, and their times.
        engine_timeout_s: of one attempt of an engine call.
    """

    def __init__(
        self,
        model: Model,
        state: SessionState,
        metrics: Metrics,
        planner: Planner,
        buffer: FrameBuffer,
        counts: SessionCounts,
        engine_timeout_s: float,
    ) -> None:
        self._model = model
        self._state = state
        self._metrics = metrics
        self._planner = planner
        self._buffer = buffer
        self._counts = counts
        self._engine_timeout_s = engine_timeout_s
        self._running: list[asyncio.Task[None]] = []
        self.next_chunk = state.next_chunk
        """The one after the last that is in the buffer, or was."""

    def start(self, tasks: asyncio.TaskGroup) -> None:
        """Makes the chunks that the planner plans from now on."""
        generator = Generator(self._model, self._state, self._metrics, self._engine_timeout_s)
        latents: asyncio.Queue[LatentChunk | None] = asyncio.Queue(_MAX_CHUNKS)
        self._buffer.reopen()
        self._running = [
            tasks.create_task(self._denoise(generator, latents), name="denoiser"),
            tasks.create_task(self._decode(generator, latents), name="decoder"),
        ]

    def stop(self) -> None:
        """Drops what is being made; calls that wait for an engine lose their place."""
        for task in self._running:
            task.cancel()
        self._running.clear()  # a cancelled task and what it worked on hold each other

    async def _denoise(
        self, generator: Generator, latents: asyncio.Queue[LatentChunk | None]
    ) -> None:
        while (plan := await self._planner.next()) is not None:
            chunk = await generator.denoise(plan)
            self._counts.num_chunks += 1
            if chunk is not None:
                await latents.put(chunk)
        await latents.put(None)

    async def _decode(
        self, generator: Generator, latents: asyncio.Queue[LatentChunk | None]
    ) -> None:
        while (chunk := await latents.get()) is not None:
            frames = await generator.decode(chunk)
            self._counts.chunk_times_s.append(frames.engine_s)
            self._counts.compute_s = generator.compute_s
            self._planner.made(frames)
            await self._buffer.put(frames)
            self.next_chunk = frames.plan.chunk + 1
        self._buffer.end()
