"""Voices, microphones, rooms, noise, breaths, lines and levels for batches of speech, on a device.

`speech_augment` is the same idea for single clips that are kept; here every step hears a clip anew.
Nothing moves in time: filters have no delay, and a room's direct sound comes first.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from mirrorme_training.speech import SAMPLE_RATE_HZ
from mirrorme_training.speech_revoice import revoice

_ROOM_SAMPLES = 8192
_LEVEL_DB = (-36.0, -14.0)
_SNR_DB = (8.0, 40.0)
_NO_NOISE_DB = -60.0
_BREATH_DB = (-32.0, -6.0)
"""Of a breath beside speech."""
_NUM_BREATHS = 3
"""At most, in a clip."""
_APART_SAMPLES = SAMPLE_RATE_HZ // 10
"""From a breath to the nearest speech."""
_BLOCK_SAMPLES = SAMPLE_RATE_HZ // 100
_FLOOR_DB = (-75.0, -38.0)
"""Of the noise in a clip without speech."""


def augment_batch(pcm: Tensor, generator: torch.Generator) -> Tensor:
    """Draws for each clip of `[B, N]` what it is heard through; the result is within -1 to 1."""
    size = 2 ** math.ceil(math.log2(pcm.shape[1] + _ROOM_SAMPLES))
    hz = torch.fft.rfftfreq(size, 1 / SAMPLE_RATE_HZ, device=pcm.device)
    draw = _Draw(len(pcm), pcm.device, generator)
    pcm = revoice(pcm, generator)
    loud = pcm.abs() > 0.05 * pcm.abs().amax(dim=1, keepdim=True) + 1e-7
    spectrum = torch.fft.rfft(pcm, size) * _equaliser(hz, draw) * _line(hz, draw)
    spectrum = spectrum * _gaps(hz, draw)
    spectrum = spectrum * torch.fft.rfft(_rooms(draw), size)
    speech = _normalized(torch.fft.irfft(spectrum, size)[:, : pcm.shape[1]], loud)
    noise = _noise(hz, size, draw)[:, : pcm.shape[1]]
    spoken = loud.any(dim=1, keepdim=True)
    relative = (-draw.uniform(*_SNR_DB)).masked_fill(~draw.chance(0.65), _NO_NOISE_DB)
    mixed = speech + _gain(relative) * noise + _breaths(loud, hz, size, draw)
    limit = mixed.abs().amax(dim=1, keepdim=True) * draw.uniform(0.35, 0.8) + 1e-6
    mixed = torch.where(draw.chance(0.15), limit * torch.tanh(mixed / limit), mixed)
    level = _gain(draw.uniform(*_LEVEL_DB))
    silent = _gain(draw.uniform(*_FLOOR_DB)) * noise
    return torch.where(spoken, level * mixed, silent).clamp(-1, 1)


class _Draw:
    """Columns `[B, 1]` of random numbers."""

    def __init__(self, batch: int, device: torch.device, generator: torch.Generator) -> None:
        self.batch, self.device, self.generator = batch, device, generator

    def uniform(self, low: float, high: float) -> Tensor:
        unit = torch.rand(self.batch, 1, device=self.device, generator=self.generator)
        return low + (high - low) * unit

    def chance(self, probability: float) -> Tensor:
        return self.uniform(0, 1) < probability

    def normal(self, count: int) -> Tensor:
        return torch.randn(self.batch, count, device=self.device, generator=self.generator)


def _gain(decibels: Tensor) -> Tensor:
    return 10 ** (decibels / 20)


def _equaliser(hz: Tensor, draw: _Draw) -> Tensor:
    """Three broad peaks or dips, `[B, frequencies]`."""
    octaves = torch.log2(hz.clamp(min=20.0))
    decibels = torch.zeros_like(octaves)
    for _ in range(3):
        middle = draw.uniform(math.log2(120), math.log2(6000))
        width = draw.uniform(0.4, 1.5)
        peak = draw.uniform(-9, 9) * draw.chance(0.6)
        decibels = decibels + peak * torch.exp(-(((octaves - middle) / width) ** 2))
    return _gain(decibels)


def _gaps(hz: Tensor, draw: _Draw) -> Tensor:
    """Up to two bands without sound, `[B, frequencies]`, as SpecAugment (Park et al., 2019) has
    them: what is learned must not hang on a few frequencies of the voices at hand."""
    octaves = torch.log2(hz.clamp(min=20.0))
    gains = torch.ones_like(octaves)
    for _ in range(2):
        middle = draw.uniform(math.log2(120), math.log2(7000))
        inside = (octaves - middle).abs() < draw.uniform(0.08, 0.35)
        gains = gains * ~(inside & draw.chance(0.35))
    return gains


def _line(hz: Tensor, draw: _Draw) -> Tensor:
    """Band limits of telephones and codecs for a quarter of the clips, `[B, frequencies]`."""
    low, high = draw.uniform(60, 350), draw.uniform(3400, 7200)
    below = 1 / (1 + (low / hz.clamp(min=1.0)) ** 4)
    above = 1 / (1 + (hz / high) ** 12)
    return torch.where(draw.chance(0.25), below * above, torch.ones_like(below))


def _rooms(draw: _Draw) -> Tensor:
    """Impulse responses, `[B, _ROOM_SAMPLES]`: direct sound and a tail that decays as noise."""
    time_s = torch.arange(_ROOM_SAMPLES, device=draw.device) / SAMPLE_RATE_HZ
    tail = draw.normal(_ROOM_SAMPLES) * torch.exp(-6.9 * time_s / draw.uniform(0.08, 0.5))
    tail = tail * (time_s > 0.004)
    tail = tail / tail.square().sum(dim=1, keepdim=True).sqrt()
    tail = tail * draw.uniform(0.1, 0.7) * draw.chance(0.45)
    return tail + (time_s == 0)


def _noise(hz: Tensor, size: int, draw: _Draw) -> Tensor:
    """Noise of a random colour, root mean square 1, `[B, size]`."""
    return _coloured((hz + 20.0) ** -draw.uniform(0.0, 1.2), size, draw)


def _coloured(gains: Tensor, size: int, draw: _Draw) -> Tensor:
    """Noise with gains `[B, frequencies]`, root mean square 1, `[B, size]`."""
    noise = torch.fft.irfft(torch.fft.rfft(draw.normal(size)) * gains, size)
    return noise / noise.square().mean(dim=1, keepdim=True).sqrt()


def _breaths(loud: Tensor, hz: Tensor, size: int, draw: _Draw) -> Tensor:
    """Air drawn in or out, away from what is `loud`, `[B, N]`: hissing without speech, for which
    lips stay as they are."""
    time_s = torch.arange(loud.shape[1], device=draw.device) / SAMPLE_RATE_HZ
    swell = torch.zeros(loud.shape, device=draw.device)
    for _ in range(_NUM_BREATHS):
        middle, half = draw.uniform(0, loud.shape[1] / SAMPLE_RATE_HZ), draw.uniform(0.12, 0.5)
        rise = (1 - ((time_s - middle) / half) ** 2).clamp(min=0)
        swell = swell + rise * _gain(draw.uniform(*_BREATH_DB)) * draw.chance(0.5)
    near = nn.functional.max_pool1d(
        loud[:, None].float(), 2 * _APART_SAMPLES + _BLOCK_SAMPLES, _BLOCK_SAMPLES, _APART_SAMPLES
    )
    near = nn.functional.interpolate(near, loud.shape[1], mode="linear")[:, 0]
    octaves = torch.log2(hz.clamp(min=20.0))
    colour = ((octaves - draw.uniform(9, 12)) / draw.uniform(0.7, 2.0)) ** 2
    air = _coloured(torch.exp(-colour), size, draw)
    return swell * (1 - near) * air[:, : loud.shape[1]]


def _normalized(samples: Tensor, loud: Tensor) -> Tensor:
    """Root mean square 1 where there is speech."""
    power = (samples.square() * loud).sum(dim=1, keepdim=True) / loud.sum(
        dim=1, keepdim=True
    ).clamp(min=1)
    return samples * torch.rsqrt(power + 1e-9)
