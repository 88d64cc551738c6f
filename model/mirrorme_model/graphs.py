"""The engines as modules to export: inputs and outputs are the engines' tensors, in this order.

What export wants rearranged is a copy; the model stays as it is.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from mirrorme_model.audio_encoder import AudioEncoder
from mirrorme_model.conditions import Conditions
from mirrorme_model.denoiser import Denoiser
from mirrorme_model.vae_config import NUM_HANDS, NUM_KEYPOINTS
from mirrorme_model.vae_graphs import DecoderGraph, IdentityEncoderGraph

__all__ = ["AudioEncoderGraph", "DecoderGraph", "DenoiserGraph", "IdentityEncoderGraph"]


class AudioEncoderGraph(nn.Module):
    """`pcm` float32 [B, window_samples], `phase` int64 [B] to `audio_tokens` [B, F, K, C]."""

    input_names = ("pcm", "phase")
    output_names = ("audio_tokens",)

    def __init__(self, audio: AudioEncoder) -> None:
        super().__init__()
        self.audio = copy.deepcopy(audio).eval()
        self.audio.backbone.bake_weight_norm()

    def example_inputs(self, batch: int, seed: int = 0) -> tuple[Tensor, ...]:
        """Random inputs of the right shapes and about the right size."""
        generator = torch.Generator().manual_seed(seed)
        window = self.audio.window
        pcm = 0.1 * torch.randn(batch, window.window_samples, generator=generator)
        return pcm, torch.arange(batch) % window.num_phases

    def forward(self, pcm: Tensor, phase: Tensor) -> Tensor:
        """Encodes windows."""
        return self.audio(pcm, phase)


class DenoiserGraph(nn.Module):
    """The sampler, all steps: `noise` and conditions to `latents` float32 [B, F, C, h, w].

    Inputs, all float32: `noise` [B, F, C, h, w] and the fields of `Conditions`, `guidance` only for
    models with guidance.
    """

    output_names = ("latents",)

    def __init__(self, denoiser: Denoiser, sigmas: tuple[float, ...] | None = None) -> None:
        """`sigmas` None: the config's."""
        super().__init__()
        self.denoiser = denoiser
        self.sigmas = sigmas or denoiser.config.sigmas
        self.input_names = (
            "noise",
            "identity",
            "motion",
            "audio_tokens",
            "expression",
            "hand_keypoints",
            "controls",
            "control_weights",
            *(("guidance",) if denoiser.config.guidance else ()),
        )

    def example_inputs(self, batch: int, seed: int = 0) -> tuple[Tensor, ...]:
        """Random inputs of the right shapes and about the right size; some hands are not given."""
        config = self.denoiser.config
        generator = torch.Generator().manual_seed(seed)

        def normal(*shape: int) -> Tensor:
            return torch.randn(batch, *shape, generator=generator)

        def uniform(*shape: int) -> Tensor:
            return torch.rand(batch, *shape, generator=generator)

        channels, video = config.vae.latent_channels, config.video
        latent = (channels, video.latent_height, video.latent_width)
        latents, frames = config.chunk.num_latents, config.chunk_frames
        keypoints = uniform(frames, NUM_HANDS, NUM_KEYPOINTS, 3)
        keypoints[:, :, 1:, :, 2] = 0
        controls = config.controls.controls
        low = torch.tensor([control.range.min for control in controls])
        high = torch.tensor([control.range.max for control in controls])
        inputs = [
            normal(latents, *latent),
            normal(*latent),
            normal(config.chunk.motion_latents, *latent),
            normal(latents, config.audio.num_tokens, config.audio.token_width),
            0.5 + uniform(),
            keypoints,
            low + (high - low) * uniform(frames, len(controls)),
            uniform(frames, len(controls)),
        ]
        if config.guidance:
            inputs.append(config.guidance.min + uniform())
        return tuple(inputs)

    def forward(
        self,
        noise: Tensor,
        identity: Tensor,
        motion: Tensor,
        audio_tokens: Tensor,
        expression: Tensor,
        hand_keypoints: Tensor,
        controls: Tensor,
        control_weights: Tensor,
        guidance: Tensor | None = None,
    ) -> Tensor:
        """Makes latents of chunks."""
        conditions = Conditions(
            identity=identity,
            motion=motion,
            audio_tokens=audio_tokens,
            expression=expression,
            hand_keypoints=hand_keypoints,
            controls=controls,
            control_weights=control_weights,
            guidance=guidance,
        )
        latents = self.denoiser.sample(noise, conditions, self.sigmas)
        return self.denoiser.with_cues(latents, conditions)
