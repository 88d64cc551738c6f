"""Speech to audio tokens, for a chunk's window and for a whole clip."""

from __future__ import annotations

import functools
from fractions import Fraction
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mirrorme_model.audio_tokens import AudioTokens
from mirrorme_model.audio_window import AudioWindow
from mirrorme_model.config import ModelConfig
from mirrorme_model.speech_backbone import SpeechBackbone
from mirrorme_model.vae_config import FRAMES_PER_LATENT


class AudioEncoder(nn.Module):
    """Hidden states of the backbone, their learned mix, slots, tokens."""

    interpolation: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.window = AudioWindow.of(config)
        self.backbone = SpeechBackbone(config.audio)
        self.layer_weights = nn.Parameter(torch.full((self.backbone.num_states,), 0.01))
        self.tokens = AudioTokens(config.audio)
        phases = range(self.window.num_phases)
        rows = [
            interpolation(self.window.slot_positions(p), self.window.num_features) for p in phases
        ]
        self.register_buffer("interpolation", torch.stack(rows), persistent=False)

    def forward(self, pcm: Tensor, phase: Tensor) -> Tensor:
        """Encodes one window.

        Args:
            pcm: [B, window_samples]; zeros before the session's start and after the end of speech.
            phase: int64 [B], the chunk's index modulo `num_phases`.

        Returns:
            [B, F, K, C], the tokens of the chunk's latent frames.
        """
        return self.tokens(self.interpolation[phase] @ self._mix(pcm))

    def encode_clip(self, pcm: Tensor, num_latents: int) -> Tensor:
        """Encodes a clip from its start; the same as encoding its chunks, up to rounding.

        Args:
            pcm: [B, N]. What is missing at its end is silence.
            num_latents: latent frames to encode; a multiple of the chunk's, where the backbone is
                not causal.

        Returns:
            [B, num_latents, K, C].
        """
        if self.config.audio.window:
            return self._encode_windows(pcm, num_latents)
        window = self.window
        slots_per_latent = FRAMES_PER_LATENT * self.config.audio.slots_per_frame
        slots = _clip_slots(window, num_latents * slots_per_latent, pcm.device)
        backbone = self.config.audio.backbone
        assert self.config.audio.band
        num_features = slots.last_feature + 2 + sum(self.config.audio.band.lookahead_features)
        num_samples = (num_features - 1) * window.hop_samples + backbone.reach_samples
        mixed = self._mix(_cut(pcm, -window.past_samples, num_samples))
        below, share = mixed[:, slots.below], slots.share
        return self.tokens(below * (1 - share) + mixed[:, slots.below + 1] * share)

    def _encode_windows(self, pcm: Tensor, num_latents: int) -> Tensor:
        num_chunks, rest = divmod(num_latents, self.config.chunk.num_latents)
        if rest:
            raise ValueError(
                f"num_latents is {num_latents}: want a multiple of {self.config.chunk.num_latents}"
            )
        chunks = [self(*self.window_of(pcm, chunk)) for chunk in range(num_chunks)]
        return torch.cat(chunks, dim=1)

    def window_of(self, pcm: Tensor, chunk: int) -> tuple[Tensor, Tensor]:
        """The window of a clip's chunk, [B, window_samples], and its phase, [B]."""
        window = self.window
        start = int(chunk * window.chunk_samples // window.hop_samples) * window.hop_samples
        cut = _cut(pcm, start - window.past_samples, window.window_samples)
        phase = torch.full(pcm.shape[:1], chunk % window.num_phases, device=pcm.device)
        return cut, phase

    def _mix(self, pcm: Tensor) -> Tensor:
        """[B, N] to [B, features, hidden_size], in float32."""
        weights = nn.functional.silu(self.layer_weights.float())
        weights = weights / weights.sum()
        states = self.backbone(pcm)
        mixed = states[0].float() * weights[0]
        for i, state in enumerate(states[1:], start=1):
            mixed = mixed + state.float() * weights[i]
        return mixed.to(states[0].dtype)


class _ClipSlots(NamedTuple):
    """Where the slots of a clip lie between features."""

    below: Tensor
    """[slots] the feature before each"""
    share: Tensor
    """[slots, 1] how far towards the one after it"""
    last_feature: int


@functools.lru_cache(maxsize=8)
def _clip_slots(window: AudioWindow, num_slots: int, device: torch.device) -> _ClipSlots:
    """Kept, so that a GPU need not be waited for to send them there."""
    positions = [
        window.position(window.past_samples, slot) for slot in range(-window.past_slots, num_slots)
    ]
    with torch.inference_mode(mode=False):
        below = torch.tensor([int(p) for p in positions], device=device)
        share = torch.tensor([float(p % 1) for p in positions], device=device)[:, None]
    return _ClipSlots(below, share, int(positions[-1]))


def interpolation(positions: list[Fraction], num_features: int) -> Tensor:
    """Linear interpolation at `positions` as a matrix, [positions, features] float32."""
    matrix = torch.zeros(len(positions), num_features, device="cpu")
    for row, position in enumerate(positions):
        below = int(position)
        matrix[row, below] = float(1 - position % 1)
        if position % 1:
            matrix[row, below + 1] = float(position % 1)
    return matrix


def _cut(pcm: Tensor, start: int, num_samples: int) -> Tensor:
    """`num_samples` from `start` on, which may be negative; zeros outside."""
    end = start + num_samples
    inside = pcm[:, max(start, 0) : max(end, 0)]
    left = min(max(-start, 0), num_samples)
    return nn.functional.pad(inside, (left, num_samples - left - inside.shape[1]))
