"""A first guess of a chunk from portrait and motion alone, which the transformer corrects.

Per channel, data is taken as normal around a mix of the portrait's and the last motion latent. The
best velocity under that is known in closed form, so the transformer is asked only for what is left,
at unit variance: preconditioning as Karras et al. (2022) do it, for rectified flow. Published
transformers know nothing of it: only presets that are trained from nothing have it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Anchor(nn.Module):
    """Owns the mix and the deviation from it, per channel."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.mix = nn.Parameter(torch.full((2, channels), 0.5))
        """Of the portrait and of the last motion latent."""
        self.log_std = nn.Parameter(torch.zeros(channels))
        self.context = nn.Linear(channels, width)

    def center(self, identity: Tensor, motion: Tensor) -> Tensor:
        """`[B, C, h, w]` and `[B, M, C, h, w]` to the guess `[B, 1, C, h, w]`."""
        portrait, last = self.mix[:, :, None, None].unbind()
        return (portrait * identity + last * motion[:, -1])[:, None]

    def deviation(self, noisy: Tensor, timestep: Tensor, center: Tensor) -> Tensor:
        """`noisy` `[B, F, C, h, w]` without the guess's share of it."""
        return noisy - (1 - _like_latents(timestep)) * center

    def seen(self, deviation: Tensor, timestep: Tensor) -> Tensor:
        """What the transformer sees: the data's deviation from the guess as far as `deviation`
        tells it, in deviations of a channel. Nothing of pure noise, all of clean data."""
        t = _like_latents(timestep)
        return (1 - t) * self._std / self._power(t) * deviation

    def velocity(
        self, deviation: Tensor, timestep: Tensor, center: Tensor, output: Tensor
    ) -> Tensor:
        """The velocity, from the transformer's output `[B, F, C, h, w]`."""
        t = _like_latents(timestep)
        variance, whole = self._std.square(), self._power(t)
        # Expected of noise minus (data minus center), given that the deviation is (1 - t) of the
        # second and t of the first.
        known = (t - (1 - t) * variance) / whole * deviation
        return known - center + (variance / whole).sqrt() * output

    @property
    def _std(self) -> Tensor:
        return self.log_std.exp()[:, None, None]

    def _power(self, t: Tensor) -> Tensor:
        """The variance of a deviation."""
        return (1 - t).square() * self._std.square() + t.square()


def _like_latents(timestep: Tensor) -> Tensor:
    """`[B, F]`, or smaller, to broadcast over `[B, F, C, h, w]`."""
    return timestep[..., None, None, None]
