"""Makes a session's frames: planned chunks in, decoded frames out.

Two steps that may run beside each other, each called for one chunk after the other: `denoise`
advances the session's state, `decode` is a pure function of what `denoise` handed on.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mirrorme_service.latent_history import Latents
from mirrorme_service.metrics import Metrics
from mirrorme_service.model import Conditions, Model
from mirrorme_service.noise import chunk_noise
from mirrorme_service.session_state import SessionState


@dataclass(frozen=True)
class ChunkPlan:
    """A chunk that can be made: its audio is there and its conditions are settled."""

    chunk: int
    num_frames: int
    """Frames of it that are delivered. 0: it is made only for what the decoder looks ahead to."""
    stop_sample: int
    """End of the audio that belongs to the delivered frames."""
    conditions: Conditions


@dataclass
class LatentChunk:
    """A chunk that can be decoded."""

    first_frame: int
    num_frames: int
    pcm: NDArray[np.float32]
    """The audio of the delivered frames."""
    latents: Latents
    """`[D + Tc + L, 128, h, w]`; empty until all are made."""
    engine_s: float


@dataclass(frozen=True)
class FrameChunk:
    """Consecutive frames and their audio."""

    first_frame: int
    frames: NDArray[np.uint8]
    """`[F, H, W, 3]`"""
    pcm: NDArray[np.float32]
    engine_s: float
    """Time spent in the engines and the queues before them."""


class Generator:
    """One session's chunks, in order."""

    def __init__(self, model: Model, state: SessionState, metrics: Metrics) -> None:
        self._model = model
        self._state = state
        self._metrics = metrics
        self._waiting: deque[LatentChunk] = deque()

    async def denoise(self, plan: ChunkPlan) -> LatentChunk | None:
        """Makes a chunk's latents; returns the chunk that can be decoded now, if there is one.

        A call that fails or is cancelled leaves the state as it was.
        """
        model, state, clock = self._model, self._state, self._model.clock
        started = time.perf_counter()
        window = clock.window(plan.chunk)
        with self._timed("audio_encoder"):
            pcm = state.pcm.read(window.start_sample, window.stop_sample)
            audio_tokens = await model.encode_audio(pcm, window)
        chunk = model.manifest.chunk
        with self._timed("denoiser"):
            latents = await model.denoise(
                noise=chunk_noise(state.seed, plan.chunk, (chunk.num_latents, *model.latent_shape)),
                identity=state.identity,
                motion=state.latents.read(
                    state.latents.end - chunk.motion_latents, state.latents.end
                ),
                audio_tokens=audio_tokens,
                conditions=plan.conditions,
                strengths=state.strengths,
            )
        state.latents.append(latents)
        if plan.num_frames:
            first_frame = plan.chunk * clock.chunk_frames
            pcm = state.pcm.read(clock.first_sample(first_frame), plan.stop_sample)
            self._waiting.append(LatentChunk(first_frame, plan.num_frames, pcm, latents[:0], 0.0))
        state.pcm.forget_before(clock.window(plan.chunk + 1).start_sample)
        decodable = self._take_decodable(plan.chunk - model.lookahead_chunks)
        if decodable is not None:
            decodable.engine_s = time.perf_counter() - started
        return decodable

    async def decode(self, chunk: LatentChunk) -> FrameChunk:
        """The delivered frames of a chunk."""
        started = time.perf_counter()
        with self._timed("decoder"):
            frames = await self._model.decode(chunk.latents)
        engine_s = chunk.engine_s + time.perf_counter() - started
        return FrameChunk(chunk.first_frame, frames[: chunk.num_frames], chunk.pcm, engine_s)

    def _take_decodable(self, chunk: int) -> LatentChunk | None:
        """The chunk of this number with its latents, if its frames are delivered."""
        spec = self._model.manifest.chunk
        if not self._waiting:
            return None
        if self._waiting[0].first_frame != chunk * self._model.clock.chunk_frames:
            return None
        ready = self._waiting.popleft()
        start = chunk * spec.num_latents
        stop = start + spec.num_latents + spec.decoder_lookahead_latents
        ready.latents = self._state.latents.read(start - spec.decoder_context_latents, stop)
        return ready

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self._metrics.chunk_stage.labels(stage).observe(time.perf_counter() - started)
