"""The video VAE: frames to normalised latents and back.

All latents that go in or out are normalised: the per-channel statistics are applied inside.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from mirrorme_model.latent_scale import LatentScale
from mirrorme_model.vae_config import FRAMES_PER_LATENT, SPATIAL_FACTOR, VaeConfig
from mirrorme_model.video_decoder import VideoDecoder
from mirrorme_model.video_encoder import VideoEncoder

LOG_VARIANCE_RANGE = (-30.0, 20.0)


class Posterior(NamedTuple):
    """Normal distributions of normalised latents."""

    mean: Tensor
    """`[B, C, 1 + k, h, w]`"""
    log_variance: Tensor
    """`[B, C, 1 + k, h, w]`"""


class VideoVae(nn.Module):
    """Encoder, decoder and latent statistics of one checkpoint."""

    def __init__(self, config: VaeConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = VideoEncoder(config)
        self.decoder = VideoDecoder(config)
        self.scale = LatentScale(config)

    def encode(self, frames: Tensor) -> Posterior:
        """`[B, 3, 1 + 8k, H, W]` in -1 to 1 to the distribution of `[B, C, 1 + k, h, w]`.

        The first frame makes a latent by itself, as a portrait does; each later latent is of 8.

        Raises:
            ValueError: if frames or sides do not fit the grid.
        """
        num_frames, height, width = frames.shape[2:]
        if num_frames % FRAMES_PER_LATENT != 1:
            raise ValueError(f"a clip has {num_frames} frames: want 1 + {FRAMES_PER_LATENT} k")
        if height % SPATIAL_FACTOR or width % SPATIAL_FACTOR:
            raise ValueError(
                f"frames are {width} x {height}: want multiples of {SPATIAL_FACTOR} pixels"
            )
        mean, log_variance = self.encoder(frames)
        log_variance = log_variance.clamp(*LOG_VARIANCE_RANGE).expand_as(mean)
        std = self.scale.std[:, None, None, None].to(mean.dtype)
        return Posterior(self.scale.normalize(mean), log_variance - 2 * std.log())

    def decode(self, latents: Tensor) -> Tensor:
        """A whole clip: `[B, C, 1 + k, h, w]` to `[B, 3, 1 + 8k, H, W]`, about -1 to 1.

        The first latent stands for a single frame; each later one makes 8.
        """
        return self.decoder(self.scale.to_decoder(latents))

    def decode_chunk(self, latents: Tensor) -> Tensor:
        """Part of a clip: `[B, C, D + Tc + L, h, w]` to its middle's `[B, 3, 8 * Tc, H, W]`.

        D and L are the decoder config's `context_latents` and `lookahead_latents`. At the start of
        a clip the first latent stands for those before it. With a causal decoder, chunks joined
        equal the whole clip, whatever their lengths.
        """
        return self.decoder.window(self.scale.to_decoder(latents))
