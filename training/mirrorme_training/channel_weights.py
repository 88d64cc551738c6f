"""How much each channel of a latent is seen in pictures, measured on the VAE that decodes them."""

from __future__ import annotations

import torch
from mirrorme_model.vae import VideoVae
from mirrorme_model.vae_config import SPATIAL_FACTOR
from torch import Tensor, nn

_ROUNDS = 24
_STEP = 0.5
"""Of a normalised latent: about as far as a denoiser is off."""


@torch.no_grad()
def channel_sensitivity(vae: VideoVae, latents: Tensor, weights: Tensor, seed: int) -> Tensor:
    """Mean squared change of pixels for a change of 1 in each channel, `[C]`.

    In every round each token is changed in a channel of its own, and what is seen in its place is
    that channel's.

    Args:
        vae: in evaluation.
        latents: [B, C, D + 1 + L, h, w], normalised; D and L as in `VideoVae.decode_chunk`. The
            one decoded is changed.
        weights: [B, h, w] of its tokens.
        seed: of the channels that are drawn.
    """
    device, generator = latents.device, torch.Generator().manual_seed(seed)
    at = vae.config.context_latents
    batch, channels, _, height, width = latents.shape
    before = vae.decode_chunk(latents)
    sums, counts = (torch.zeros(channels, device=device) for _ in range(2))
    for _ in range(_ROUNDS):
        drawn = torch.randint(channels, (batch, 1, height, width), generator=generator).to(device)
        changed = latents.clone()
        changed[:, :, at].scatter_add_(1, drawn, torch.full_like(latents[:, :1, at], _STEP))
        seen = (vae.decode_chunk(changed) - before).float().square().mean(dim=(1, 2))
        seen = nn.functional.avg_pool2d(seen, SPATIAL_FACTOR) * weights
        sums.index_add_(0, drawn.flatten(), seen.flatten())
        counts.index_add_(0, drawn.flatten(), weights.flatten())
    return sums / counts.clamp(min=1e-6) / _STEP**2
