"""A linear path through the light VAE: pixels of one latent to its channels and back.

Principal components of 8 frames of 32 x 32 pixels already say most of a picture; networks beside
them, where a config has any, learn what is left. LTX-Video's VAE has no such path.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from mirrorme_model.vae_config import FRAMES_PER_LATENT, SPATIAL_FACTOR, VaeConfig

_FIRST_STD = 0.35
"""Of the pixels, -1 to 1, that random weights make of normal latents."""


class PatchBasis(nn.Module):
    """`channels = exp(log_gain) * weight @ (pixels - mean)`, and the same backwards.

    Rows of `weight` are of length 1 in the mean over pixels, so all parameters are about 1.

    Pixels are in the order frame, patch row, patch column, patch channel (see `patchify`), so that
    what is made can be added to the decoder's patches. A clip's first frame, and a picture, stand
    for 8 equal frames.
    """

    def __init__(self, config: VaeConfig) -> None:
        super().__init__()
        self._side = SPATIAL_FACTOR // config.patch_px
        channels = 3 * config.patch_px**2
        pixels = FRAMES_PER_LATENT * self._side**2 * channels
        self.weight = nn.Parameter(torch.empty(config.picture_channels, pixels))
        nn.init.orthogonal_(self.weight, gain=pixels**0.5)
        self.mean = nn.Parameter(torch.zeros(pixels))
        first = -math.log(_FIRST_STD * (pixels / config.picture_channels) ** 0.5)
        self.log_gain = nn.Parameter(torch.full((config.picture_channels,), first))

    def encode(self, patches: Tensor) -> Tensor:
        """`[B, 3 p p, 1 + 8k, H / p, W / p]` (or, of pictures, without the frames) to latents."""
        picture = patches.dim() == 4
        if picture:
            weight, mean = (
                v.unflatten(-1, (FRAMES_PER_LATENT, -1)) for v in (self.weight, self.mean)
            )
            weight, offset = weight.sum(dim=1), (weight * mean).sum(dim=(1, 2))
            made = self._blocks(patches[:, :, None], 1) @ weight.T - offset
        else:
            first = patches[:, :, :1].expand(-1, -1, FRAMES_PER_LATENT, -1, -1)
            clip = torch.cat([first, patches[:, :, 1:]], dim=2)
            made = (self._blocks(clip, FRAMES_PER_LATENT) - self.mean) @ self.weight.T
        latents = (made * (self.log_gain.exp() / len(self.mean) ** 0.5)).permute(0, 4, 1, 2, 3)
        return latents[:, :, 0] if picture else latents

    def decode(self, latents: Tensor, last_frames: int = FRAMES_PER_LATENT) -> Tensor:
        """`[B, C, F, h, w]` to patches `[B, 3 p p, n F, H / p, W / p]` of each latent's last
        `n = last_frames` frames."""
        batch, _, frames, height, width = latents.shape
        side = self._side
        first = len(self.mean) * (FRAMES_PER_LATENT - last_frames) // FRAMES_PER_LATENT
        amplitudes = latents.permute(0, 2, 3, 4, 1) / (self.log_gain.exp() * len(self.mean) ** 0.5)
        # Contiguous, or torch multiplies token by token, each by a copy of the weights.
        x = amplitudes.contiguous() @ self.weight[:, first:] + self.mean[first:]
        # In two steps: the first moves whole rows of a block, the second turns channels alone. At
        # once, single numbers are moved, which takes runtimes several times as long.
        x = x.unflatten(-1, (last_frames, side, -1)).permute(0, 1, 4, 2, 5, 3, 6)
        rows, columns = side * height, side * width
        x = x.reshape(batch * frames * last_frames, rows, columns, -1).permute(0, 3, 1, 2)
        return x.unflatten(0, (batch, -1)).transpose(1, 2)

    def blocks(self, clip: Tensor) -> Tensor:
        """Patches `[B, 3 p p, 8 F, H / p, W / p]` to rows of pixels `[B, F, h, w, pixels]`."""
        return self._blocks(clip, FRAMES_PER_LATENT)

    def _blocks(self, clip: Tensor, frames: int) -> Tensor:
        side = self._side
        x = clip.unflatten(2, (-1, frames)).unflatten(4, (-1, side)).unflatten(6, (-1, side))
        return x.permute(0, 2, 4, 6, 3, 5, 7, 1).flatten(4)
