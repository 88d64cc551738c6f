"""Makes a session's frames: planned chunks in, decoded frames out.

Two steps that may run beside each other, each called for one chunk after the other: `denoise`
advances the session's state, `decode` is a pure function of what `denoise` handed on.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
from mirrorme.animate.v1 import animation_pb2 as pb

from mirrorme_service.chunk_plan import ChunkPlan, FrameChunk, LatentChunk
from mirrorme_service.errors import AtCapacity, EngineTrouble
from mirrorme_service.latent_history import Latents, MadeChunk
from mirrorme_service.metrics import Metrics
from mirrorme_service.model import Model
from mirrorme_service.noise import chunk_noise
from mirrorme_service.queue_time import measured_queue_time
from mirrorme_service.session_state import SessionState
from mirrorme_service.traces import current_trace

log = logging.getLogger(__name__)


class Generator:
    """One session's chunks, in order. A session that goes back to an earlier chunk takes a new one.

    A call that fails or is cancelled leaves the state as it was.
    """

    def __init__(
        self, model: Model, state: SessionState, metrics: Metrics, engine_timeout_s: float
    ) -> None:
        self._model = model
        self._engine_timeout_s = engine_timeout_s
        self._state = state
        self._metrics = metrics
        self._trace = current_trace()
        self._computed_s: dict[int, float] = {}
        """By chunk that is not decoded yet."""
        self.compute_s = 0.0
        """In which the chunk decoded last was made, without waiting for engines."""
        self._undecoded: deque[tuple[ChunkPlan, float]] = deque()
        """With the time spent in engines: made, but perhaps not what their decoder looks ahead
        to."""

    async def denoise(self, plan: ChunkPlan) -> LatentChunk | None:
        """Makes a chunk's latents; returns the chunk that can be decoded now, if there is one.

        Where that fails in spite of retries, a denoiser with fewer steps is tried, if there is one.
        """
        started = time.perf_counter()
        try:
            latents = await self._latents(plan)
        except (EngineTrouble, AtCapacity) as error:
            if not self._model.has_cheaper_denoiser or plan.level != pb.DEGRADATION_LEVEL_NONE:
                raise
            log.warning("chunk %d with fewer steps: %s", plan.chunk, error)
            plan = replace(plan, level=pb.DEGRADATION_LEVEL_FEWER_STEPS, reason=error.message)
            latents = await self._latents(plan)
        self._state.latents.append(MadeChunk(plan.chunk, plan.identity, latents))
        self._undecoded.append((plan, time.perf_counter() - started))
        return self._pop_decodable()

    async def decode(self, chunk: LatentChunk) -> FrameChunk:
        """The delivered frames of a chunk."""
        plan = chunk.plan
        started = time.perf_counter()
        with self._timed("decoder", plan.chunk):
            frames = await self._model.decode(chunk.latents, self._engine_timeout_s)
        self._trace.end_chunk(plan.chunk)
        self.compute_s = self._computed_s.pop(plan.chunk)
        engine_s = chunk.engine_s + time.perf_counter() - started
        first_frame = plan.chunk * self._model.clock.chunk_frames
        return FrameChunk(plan, first_frame, frames[: plan.num_frames], engine_s)

    async def _latents(self, plan: ChunkPlan) -> Latents:
        model, state = self._model, self._state
        window = model.clock.window(plan.chunk)
        with self._timed("audio_encoder", plan.chunk):
            pcm = state.timeline.pcm.read(window.start_sample, window.stop_sample)
            audio_tokens = await model.encode_audio(pcm, window, self._engine_timeout_s)
        chunk = model.manifest.chunk
        noise_shape = (chunk.num_latents, *model.latent_shape)
        with self._timed("denoiser", plan.chunk):
            return await model.denoise(
                noise=chunk_noise(state.seed, plan.chunk, noise_shape),
                identity=plan.identity.latents,
                motion=state.latents.before(plan.chunk, plan.identity, chunk.motion_latents),
                audio_tokens=audio_tokens,
                conditions=plan.conditions,
                strengths=state.strengths,
                cheaper=plan.level != pb.DEGRADATION_LEVEL_NONE,
                timeout_s=self._engine_timeout_s,
            )

    def _pop_decodable(self) -> LatentChunk | None:
        """The oldest chunk, once its look-ahead is made; chunks of no frames are dropped."""
        if len(self._undecoded) <= self._model.lookahead_chunks:
            return None
        plan, engine_s = self._undecoded.popleft()
        if not plan.num_frames:
            return None
        spec, history = self._model.manifest.chunk, self._state.latents
        around = [
            history.before(plan.chunk, plan.identity, spec.decoder_context_latents),
            history.of_chunk(plan.chunk),
            history.after(plan.chunk, spec.decoder_lookahead_latents),
        ]
        return LatentChunk(plan, np.concatenate(around), engine_s)

    @contextmanager
    def _timed(self, stage: str, chunk: int) -> Iterator[None]:
        started = time.perf_counter()
        with self._trace.stage(chunk, stage), measured_queue_time() as queue:
            yield
        elapsed_s = time.perf_counter() - started
        self._metrics.chunk_stage.labels(stage).observe(elapsed_s)
        computed_s = self._computed_s.get(chunk, 0.0) + elapsed_s - queue.total_s
        self._computed_s[chunk] = computed_s
