"""The model as the gateway sees it: four functions of arrays, and what the manifest says of them.

Knows tensor names and shapes; knows no sessions, positions or clients.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import numpy as np
from mirrorme.animate.v1 import animation_pb2
from mirrorme_engines.engine import Engine, EngineSet
from mirrorme_engines.errors import ManifestError
from mirrorme_engines.manifest import Manifest
from numpy.typing import NDArray

from mirrorme_service.clock import AudioWindow, MediaClock
from mirrorme_service.engine_calls import EngineCalls
from mirrorme_service.latent_history import Latents

_INPUTS = {
    "identity_encoder": {"image"},
    "audio_encoder": {"pcm", "phase"},
    "denoiser": {
        "noise",
        "identity",
        "motion",
        "audio_tokens",
        "hand_keypoints",
        "controls",
        "control_weights",
        "expression",
        "guidance",
    },
    "decoder": {"latents"},
}


@dataclass(frozen=True)
class Strengths:
    """How strongly a session's conditions act."""

    expression: float
    guidance: float


@dataclass(frozen=True)
class Conditions:
    """What a client asked of the frames of one chunk."""

    hand_keypoints: NDArray[np.float32]
    """`[chunk_frames, 2, 21, 3]`: x, y, visibility; zeros where not given."""
    controls: NDArray[np.float32]
    """`[chunk_frames, num_controls]`, in the manifest's order and units."""
    control_weights: NDArray[np.float32]
    """`[chunk_frames, num_controls]`, 0 where not given."""


class Model:
    """One preset's engines and its clock. The engines are closed by who opened them."""

    def __init__(self, engines: EngineSet, calls: EngineCalls) -> None:
        self.manifest: Manifest = engines.manifest
        self.clock = MediaClock.of(engines.manifest)
        self.platform = engines.platform
        self._engines = engines
        self._calls = calls
        self.last_chunk_s = -math.inf
        """When a chunk was last made, by `time.monotonic`; nothing else is kept between calls."""
        for engine in engines.engines:
            names = {tensor.name for tensor in engine.spec.inputs}
            if unknown := names - _INPUTS[engine.spec.role]:
                listed = ", ".join(sorted(unknown))
                raise ManifestError(f"engine {engine.spec.name} wants unknown inputs: {listed}")

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Of one latent frame, `[C, h, w]`."""
        video = self.manifest.video
        return video.latent_channels, video.latent_height, video.latent_width

    @property
    def has_cheaper_denoiser(self) -> bool:
        """Whether `denoise` can be asked for fewer steps."""
        return self._cheapest_denoiser is not self._engines.denoiser

    @property
    def _cheapest_denoiser(self) -> Engine:
        denoisers = (self._engines.denoiser, *self._engines.other_denoisers)
        return min(denoisers, key=lambda engine: engine.spec.num_steps or 0)

    @property
    def lookahead_chunks(self) -> int:
        """Further chunks that must be denoised before a chunk can be decoded."""
        chunk = self.manifest.chunk
        return -(-chunk.decoder_lookahead_latents // chunk.num_latents)

    async def encode_identity(self, image: NDArray[np.uint8]) -> Latents:
        """`[H, W, 3]` to the identity, `[C, h, w]`."""
        outputs = await self._calls.row(self._engines.identity_encoder, {"image": image})
        return np.asarray(outputs["identity"], np.float32)

    # A chunk. `timeout_s` is of one attempt of the call; None: the usual one.

    async def encode_audio(
        self, pcm: NDArray[np.float32], window: AudioWindow, timeout_s: float | None = None
    ) -> NDArray[np.float32]:
        """The samples of a chunk's window to its audio tokens, `[Tc, K, C]`."""
        inputs = {"pcm": pcm, "phase": window.phase}
        outputs = await self._calls.row(self._engines.audio_encoder, inputs, timeout_s)
        return np.asarray(outputs["audio_tokens"], np.float32)

    async def denoise(
        self,
        *,
        noise: Latents,
        identity: Latents,
        motion: Latents,
        audio_tokens: NDArray[np.float32],
        conditions: Conditions,
        strengths: Strengths,
        cheaper: bool = False,
        timeout_s: float | None = None,
    ) -> Latents:
        """The latents of one chunk, `[Tc, C, h, w]`; `motion` is `[M, C, h, w]`.

        `cheaper`: with the fewest steps that there are.
        """
        inputs = {
            "noise": noise,
            "identity": identity,
            "motion": motion,
            "audio_tokens": audio_tokens,
            "hand_keypoints": conditions.hand_keypoints,
            "controls": conditions.controls,
            "control_weights": conditions.control_weights,
            "expression": strengths.expression,
            "guidance": strengths.guidance,
        }
        engine = self._cheapest_denoiser if cheaper else self._engines.denoiser
        outputs = await self._calls.row(engine, inputs, timeout_s)
        return np.asarray(outputs["latents"], np.float32)

    async def decode(self, latents: Latents, timeout_s: float | None = None) -> NDArray[np.uint8]:
        """`[D + Tc + L, C, h, w]` to the chunk's frames, `[8 * Tc, H, W, 3]`."""
        outputs = await self._calls.row(self._engines.decoder, {"latents": latents}, timeout_s)
        self.last_chunk_s = time.monotonic()
        return np.asarray(outputs["frames"], np.uint8)

    # How the contract says it.

    def version(self, service_version: str) -> animation_pb2.ModelVersion:
        """The model's name and origin."""
        return animation_pb2.ModelVersion(
            preset=self.manifest.preset,
            weights_sha256=self.manifest.weights_sha256,
            engine=self.platform,
            service_version=service_version,
            trained=self.manifest.trained,
        )

    def frame_size(self) -> animation_pb2.FrameSize:
        """Of every frame."""
        video = self.manifest.video
        return animation_pb2.FrameSize(width_px=video.width_px, height_px=video.height_px)

    def timing(self) -> animation_pb2.AudioTiming:
        """The media clock."""
        return animation_pb2.AudioTiming(
            sample_rate_hz=self.clock.sample_rate_hz,
            frame_rate_numerator=self.clock.frame_rate.numerator,
            frame_rate_denominator=self.clock.frame_rate.denominator,
            chunk_frames=self.clock.chunk_frames,
        )
