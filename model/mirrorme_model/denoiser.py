"""The denoiser: LTX-Video's transformer with a portrait, motion, speech, hands and controls.

The portrait's and the motion's tokens are clean (t = 0) and attend to clean tokens only. So
`prefill` computes their keys and values once a chunk, and each step runs the chunk's own tokens
against them.
"""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor, nn

from mirrorme_model.anchor import Anchor
from mirrorme_model.attention import KeysValues
from mirrorme_model.audio_adapter import AudioAdapter
from mirrorme_model.conditions import Conditions
from mirrorme_model.config import ModelConfig
from mirrorme_model.controls import ControlEmbedding, GuidanceEmbedding
from mirrorme_model.face_code import FaceCode
from mirrorme_model.hand_cues import hand_cues
from mirrorme_model.hand_encoder import HandEncoder
from mirrorme_model.rope import Rope, grid_coordinates, rope
from mirrorme_model.transformer import Transformer
from mirrorme_model.vae_config import FRAMES_PER_LATENT, SPATIAL_FACTOR

NOISY, IDENTITY, MOTION = range(3)
"""Rows of the token-type embedding."""


@dataclass(frozen=True)
class Prefill:
    """What all steps of a chunk share."""

    clean: list[KeysValues]
    """Of the portrait and motion, one entry a block."""
    text: list[KeysValues | None]
    """Of the prompt, one entry a block."""
    audio: dict[int, KeysValues]
    """By the block that the adapter follows."""
    expression: Tensor
    """[B, 1, 1, 1]."""
    token_bias: Tensor
    """[B, F, S, D] or smaller: token type and hands."""
    time_bias: Tensor
    """[B, F, D]: controls and guidance."""
    center: Tensor | None
    """[B, 1, C, h, w]: the anchor's guess."""


class Denoiser(nn.Module):
    """Predicts velocity, and samples. `base` is the published transformer; the rest is ours."""

    clean_cos: Tensor
    clean_sin: Tensor
    noisy_cos: Tensor
    noisy_sin: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        dit, width = config.dit, config.dit.width
        self.base = Transformer(dit, config.vae.picture_channels)
        self.prompt = (
            nn.Parameter(torch.zeros(1, dit.text.num_prompt_tokens, dit.text.caption_channels))
            if dit.text
            else None
        )
        self.anchor = Anchor(config.vae.picture_channels, width) if dit.anchor else None
        self.token_types = nn.Parameter(torch.zeros(3, width))
        self.audio_adapters = nn.ModuleDict(
            {str(layer): AudioAdapter(dit, config.audio.token_width) for layer in dit.audio_layers}
        )
        self.hand_encoder = HandEncoder(config.hands, config.video, width) if config.hands else None
        self.control_embedding = ControlEmbedding(config.controls, width)
        self.guidance_embedding = GuidanceEmbedding(width) if config.guidance else None
        self.face_code = FaceCode(config) if config.vae.face_channels else None
        self._register_rope("clean", clean_times_s(config))
        self._register_rope("noisy", noisy_times_s(config))

    def _register_rope(self, name: str, times_s: list[Fraction]) -> None:
        video = self.config.video
        coordinates = grid_coordinates(
            times_s, video.latent_height, video.latent_width, SPATIAL_FACTOR
        )
        cos, sin = rope(coordinates, self.config.dit.width)
        self.register_buffer(f"{name}_cos", cos, persistent=False)
        self.register_buffer(f"{name}_sin", sin, persistent=False)

    @property
    def clean_rope(self) -> Rope:
        """Of the portrait's and the motion's tokens."""
        return Rope(self.clean_cos, self.clean_sin)

    @property
    def noisy_rope(self) -> Rope:
        """Of the chunk's tokens."""
        return Rope(self.noisy_cos, self.noisy_sin)

    def prefill(self, conditions: Conditions) -> Prefill:
        """Computes once what the steps of a chunk share. Face channels are ignored."""
        conditions = self._pictured(conditions)
        if (conditions.guidance is None) != (self.guidance_embedding is None):
            raise ValueError("guidance must be given for models with guidance, and only for them")
        text = self._text(conditions.identity.shape[0])
        token_bias = self.token_types[NOISY]
        if self.hand_encoder is not None:
            token_bias = token_bias + self.hand_encoder(conditions.hand_keypoints)
        center = None
        if self.anchor is not None:
            center = self.anchor.center(conditions.identity, conditions.motion)
            token_bias = token_bias + self.anchor.context(to_tokens(center))
        time_bias = self.control_embedding(conditions.controls, conditions.control_weights)
        if self.guidance_embedding is not None and conditions.guidance is not None:
            time_bias = time_bias + self.guidance_embedding(conditions.guidance)
        return Prefill(
            clean=self._clean(conditions, text),
            text=text,
            audio={
                layer: adapter.keys_values(conditions.audio_tokens)
                for layer, adapter in self._adapters().items()
            },
            expression=conditions.expression[:, None, None, None],
            token_bias=token_bias,
            time_bias=time_bias,
            center=center,
        )

    def velocity(self, noisy: Tensor, timestep: Tensor, prefill: Prefill) -> Tensor:
        """Predicts noise - data.

        Args:
            noisy: [B, F, C, h, w].
            timestep: [B, F], or smaller and broadcast: 0 (clean) to 1 (noise).
            prefill: of the chunk.

        Returns:
            [B, F, C, h, w].
        """
        anchor, center = self.anchor, prefill.center
        deviation, seen = noisy, noisy
        if anchor is not None and center is not None:
            deviation = anchor.deviation(noisy, timestep, center)
            seen = anchor.seen(deviation, timestep)
        x = self.base.patchify_proj(to_tokens(seen)) + prefill.token_bias
        shared, embedded_time = self.base.adaln_single(timestep, prefill.time_bias)
        adapters = self._adapters()
        for layer, block in enumerate(self.base.blocks):
            modulation = block.modulation(shared)
            modulated = block.modulated(x, modulation)
            own = block.attn1.keys_values(modulated, self.noisy_rope)
            context = prefill.clean[layer].then(own)
            text = prefill.text[layer]
            x = block(x, modulated, modulation, self.noisy_rope, context, text)
            if layer in adapters:
                x = adapters[layer](x, prefill.audio[layer], prefill.expression)
        made = from_tokens(self.base.output(x, embedded_time), noisy.shape[-2:])
        if anchor is None or center is None:
            return made
        return anchor.velocity(deviation, timestep, center, made)

    def forward(self, noisy: Tensor, timestep: Tensor, conditions: Conditions) -> Tensor:
        """As training sees it: `velocity` with its own `prefill`."""
        return self.velocity(noisy, timestep, self.prefill(conditions))

    def sample(
        self, noise: Tensor, conditions: Conditions, sigmas: tuple[float, ...] | None = None
    ) -> Tensor:
        """Makes a chunk's latents: Euler steps of the rectified flow, x_t = (1 - t)·data + t·noise.

        Args:
            noise: [B, F, C, h, w]; face channels are ignored.
            conditions: of the chunk.
            sigmas: noise levels from 1 to 0; None: the config's.

        Returns:
            [B, F, C, h, w], of pictures alone: see `with_cues`.
        """
        prefill = self.prefill(conditions)
        sigmas = sigmas or self.config.sigmas
        x = noise[:, :, : self.config.vae.picture_channels]
        for sigma, next_sigma in itertools.pairwise(sigmas):
            timestep = torch.full((1, 1), sigma, device=noise.device)
            x = x + (next_sigma - sigma) * self.velocity(x, timestep, prefill)
        return x

    def with_cues(self, latents: Tensor, conditions: Conditions) -> Tensor:
        """Adds the face and hand channels of a chunk, where the model has some, to `sample`'s
        latents."""
        code = hands = None
        if self.face_code is not None:
            made = self.face_code(
                conditions.audio_tokens,
                conditions.expression,
                conditions.controls,
                conditions.control_weights,
            )
            code = self.face_code.told(made)
        if self.config.vae.hand_channels:
            hands = hand_cues(conditions.hand_keypoints, *latents.shape[-2:])
        return join_cues(latents, code, hands)

    def _pictured(self, conditions: Conditions) -> Conditions:
        channels = self.config.vae.picture_channels
        return dataclasses.replace(
            conditions,
            identity=conditions.identity[:, :channels],
            motion=conditions.motion[:, :, :channels],
        )

    def _adapters(self) -> dict[int, AudioAdapter]:
        return {
            int(layer): adapter
            for layer, adapter in self.audio_adapters.items()
            if isinstance(adapter, AudioAdapter)
        }

    def _text(self, batch: int) -> list[KeysValues | None]:
        if self.prompt is None:
            return [None] * len(self.base.blocks)
        return self.base.text_keys_values(self.prompt.expand(batch, -1, -1))

    def _clean(self, conditions: Conditions, text: list[KeysValues | None]) -> list[KeysValues]:
        latents = torch.cat((conditions.identity[:, None], conditions.motion), dim=1)
        identity, motion = self.token_types[IDENTITY], self.token_types[MOTION]
        types = torch.stack([identity] + [motion] * conditions.motion.shape[1])
        x = self.base.patchify_proj(to_tokens(latents)) + types[:, None]
        # One group: all are at t = 0.
        x = x.flatten(1, 2)[:, None]
        shared, _ = self.base.adaln_single(torch.zeros(1, 1, device=x.device))
        kept: list[KeysValues] = []
        for layer, block in enumerate(self.base.blocks):
            modulation = block.modulation(shared)
            modulated = block.modulated(x, modulation)
            kept.append(block.attn1.keys_values(modulated, self.clean_rope))
            if layer + 1 < len(self.base.blocks):
                x = block(x, modulated, modulation, self.clean_rope, kept[-1], text[layer])
        return kept


def join_cues(latents: Tensor, code: Tensor | None, hands: Tensor | None) -> Tensor:
    """`[B, F, C, h, w]` of pictures, `[B, F, E]` of faces, which every token is told, and
    `[B, F, S, h, w]` of hands, where there are such, to `[B, F, C + E + S, h, w]`."""
    parts = [latents]
    if code is not None:
        face = code[..., None, None].expand(-1, -1, -1, *latents.shape[-2:])
        parts.append(face.to(latents.dtype))
    if hands is not None:
        parts.append(hands.to(latents.dtype))
    return torch.cat(parts, dim=2)


def clean_times_s(config: ModelConfig) -> list[Fraction]:
    """When the clean latent frames are, from the chunk's start: the portrait, then the motion."""
    motion = config.chunk.motion_latents
    return _times_s(config, [-config.chunk.identity_distance_latents, *range(-motion, 0)])


def noisy_times_s(config: ModelConfig) -> list[Fraction]:
    """When the chunk's latent frames are, from its start."""
    return _times_s(config, list(range(config.chunk.num_latents)))


def _times_s(config: ModelConfig, latents: list[int]) -> list[Fraction]:
    video = config.video
    frame_s = Fraction(video.frame_rate_denominator, video.frame_rate_numerator)
    return [latent * FRAMES_PER_LATENT * frame_s for latent in latents]


def to_tokens(latents: Tensor) -> Tensor:
    """[B, F, C, h, w] to [B, F, h·w, C]."""
    return latents.flatten(3).transpose(2, 3)


def from_tokens(tokens: Tensor, size: torch.Size) -> Tensor:
    """[B, F, h·w, C] to [B, F, C, h, w]; `size` is (h, w)."""
    return tokens.transpose(2, 3).unflatten(3, size)
