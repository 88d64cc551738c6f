"""What a chunk is made from, besides noise."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Conditions:
    """Inputs of one chunk of F latent frames, named as the denoiser engine's."""

    identity: Tensor
    """[B, C, h, w]: the portrait's latents."""
    motion: Tensor
    """[B, M, C, h, w]: the latents just before the chunk."""
    audio_tokens: Tensor
    """[B, F, K, token_width]."""
    expression: Tensor
    """[B]: strength of speech, 1 as trained."""
    hand_keypoints: Tensor
    """[B, 8·F, 2, 21, 3]: x, y, visibility; zeros where not given."""
    controls: Tensor
    """[B, 8·F, controls], in the config's units."""
    control_weights: Tensor
    """[B, 8·F, controls], 0 where not given."""
    guidance: Tensor | None = None
    """[B]; for models with guidance, and only for them."""
