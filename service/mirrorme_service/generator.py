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


@dataclass(frozen=True)
class LatentChunk:
    """A chunk that can be decoded."""

    first_frame: int
    num_frames: int
    pcm: NDArray[np.float32]
    """The audio of the delivered frames."""
    latents: Latents
    """`[D + Tc + L, 128, h, w]`"""
    engine_s: float
    """Time spent in the engines and the queues before them."""


@dataclass(frozen=True)
class FrameChunk:
    """Consecutive frames and their audio."""

    first_frame: int
    frames: NDArray[np.uint8]
    """`[F, H, W, 3]`"""
    pcm: NDArray[np.float32]
    engine_s: float
    """Time spent in the engines and the queues before them."""


@dataclass(frozen=True)
class _Undecoded:
    """A chunk whose latents are made, but perhaps not those that its decoder looks ahead to."""

    plan: ChunkPlan
    pcm: NDArray[np.float32]
    engine_s: float


class Generator:
    """One session's chunks, in order."""

    def __init__(self, model: Model, state: SessionState, metrics: Metrics) -> None:
        self._model = model
        self._state = state
        self._metrics = metrics
        self._undecoded: deque[_Undecoded] = deque()

    async def denoise(self, plan: ChunkPlan) -> LatentChunk | None:
        """Makes a chunk's latents; returns the chunk that can be decoded now, if there is one.

        A call that fails or is cancelled leaves the state as it was.
        """
        state, clock = self._state, self._model.clock
        assert plan.chunk == state.num_chunks, "chunks are made in order"
        started = time.perf_counter()
        latents = await self._latents(plan)
        first_sample = clock.first_sample(plan.chunk * clock.chunk_frames)
        pcm = state.pcm.read(first_sample, max(first_sample, plan.stop_sample))
        self._undecoded.append(_Undecoded(plan, pcm, time.perf_counter() - started))
        state.latents.append(latents)
        state.num_chunks += 1
        state.pcm.forget_before(clock.window(state.num_chunks).start_sample)
        return self._pop_decodable()

    async def decode(self, chunk: LatentChunk) -> FrameChunk:
        """The delivered frames of a chunk."""
        started = time.perf_counter()
        with self._timed("decoder"):
            frames = await self._model.decode(chunk.latents)
        engine_s = chunk.engine_s + time.perf_counter() - started
        return FrameChunk(chunk.first_frame, frames[: chunk.num_frames], chunk.pcm, engine_s)

    async def _latents(self, plan: ChunkPlan) -> Latents:
        model, state = self._model, self._state
        window = model.clock.window(plan.chunk)
        with self._timed("audio_encoder"):
            pcm = state.pcm.read(window.start_sample, window.stop_sample)
            audio_tokens = await model.encode_audio(pcm, window)
        chunk, end = model.manifest.chunk, state.latents.end
        noise_shape = (chunk.num_latents, *model.latent_shape)
        with self._timed("denoiser"):
            return await model.denoise(
                noise=chunk_noise(state.seed, plan.chunk, noise_shape),
                identity=state.identity,
                motion=state.latents.read(end - chunk.motion_latents, end),
                audio_tokens=audio_tokens,
                conditions=plan.conditions,
                strengths=state.strengths,
            )

    def _pop_decodable(self) -> LatentChunk | None:
        """The oldest chunk, once its look-ahead is made; chunks of no frames are dropped."""
        spec, clock = self._model.manifest.chunk, self._model.clock
        plan = self._undecoded[0].plan
        if self._state.num_chunks <= plan.chunk + self._model.lookahead_chunks:
            return None
        made = self._undecoded.popleft()
        if not plan.num_frames:
            return None
        start = plan.chunk * spec.num_latents
        stop = start + spec.num_latents + spec.decoder_lookahead_latents
        return LatentChunk(
            first_frame=plan.chunk * clock.chunk_frames,
            num_frames=plan.num_frames,
            pcm=made.pcm,
            latents=self._state.latents.read(start - spec.decoder_context_latents, stop),
            engine_s=made.engine_s,
        )

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self._metrics.chunk_stage.labels(stage).observe(time.perf_counter() - started)
