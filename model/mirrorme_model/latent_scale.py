"""Between the latents that everything else sees and those of the VAE's own networks."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mirrorme_model.vae_config import VaeConfig

NOISE_SEED = 24
MAX_NOISE_SIDE = 64
"""In latent pixels: 2048 pixels."""


class LatentScale(nn.Module):
    """Per-channel statistics of the encoder's latents, and the noise that the decoder expects.

    The noise is one fixed picture for all latent frames, so a frame's pixels depend on neither its
    place in the stream nor the chunk that it is decoded in. As in LTX-Video's own pipeline it is
    mixed with normalised latents; diffusers mixes it after the scale.
    """

    mean: Tensor
    std: Tensor
    noise: Tensor | None

    def __init__(self, config: VaeConfig) -> None:
        super().__init__()
        self.noise_scale = 0.0 if config.decoder is None else config.decoder.noise_scale
        self.register_buffer("mean", torch.zeros(config.picture_channels))
        self.register_buffer("std", torch.ones(config.picture_channels))
        noise = _fixed_noise(config.picture_channels) if self.noise_scale else None
        self.register_buffer("noise", noise, persistent=False)

    def normalize(self, latents: Tensor) -> Tensor:
        """From the encoder's scale; `[B, C, ...]`."""
        return (latents - _channels(self.mean, latents)) / _channels(self.std, latents)

    def to_decoder(self, latents: Tensor) -> Tensor:
        """Normalised `[B, C, F, h, w]`, of pictures alone, to what the decoder takes: noise mixed
        in, then its scale.

        Raises:
            ValueError: if a side is larger than the noise.
        """
        if self.noise is not None:
            height, width = latents.shape[-2:]
            if max(height, width) > MAX_NOISE_SIDE:
                raise ValueError(
                    f"latents are {width} x {height}: want at most {MAX_NOISE_SIDE} a side"
                )
            noise = self.noise[:, None, :height, :width].to(latents.dtype)
            latents = (1 - self.noise_scale) * latents + self.noise_scale * noise
        return latents * _channels(self.std, latents) + _channels(self.mean, latents)


def _channels(statistics: Tensor, like: Tensor) -> Tensor:
    """`[C]` shaped to broadcast over `[B, C, ...]`."""
    return statistics.reshape(1, -1, *[1] * (like.dim() - 2)).to(like.dtype)


def _fixed_noise(channels: int) -> Tensor:
    # On the CPU whatever the default device is: the same everywhere, also when weights are "meta".
    generator = torch.Generator("cpu").manual_seed(NOISE_SEED)
    shape = (channels, MAX_NOISE_SIDE, MAX_NOISE_SIDE)
    return torch.randn(shape, generator=generator, device="cpu")
