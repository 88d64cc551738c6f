"""The same speech in voices that no synthesiser has: another throat, pitch, breath or buzz.

Speech is split into what the mouth does (the spectrum's envelope) and what sounds in the throat.
Envelopes are stretched over frequency, as longer and shorter throats do it (vocal tract length
perturbation: Jaitly and Hinton, 2013), and some are filled with a hum or with noise instead. What
is said stays, and so does its time.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mirrorme_training.speech import SAMPLE_RATE_HZ

_WINDOW_SAMPLES = 512
_HOP_SAMPLES = 128
_SOFTEST = 1e-4
"""Magnitude that nothing is quieter than when logarithms are taken."""
_STRETCH = 1.25
"""Formants go up or down by at most so much."""
_QUEFRENCIES = (22, 40)
"""Of the cepstrum, so many make the envelope: fewer are smoother."""
_HUM_HZ = (70.0, 320.0)
_STRETCHED, _HUMMED, _WHISPERED = 0.7, 0.2, 0.1
"""Shares of the speech; the last two are apart."""
_VOICED_BELOW_HZ = 1000.0
_VOICED_DB = 3.0
"""A frame hums where there is so much more below than above."""


def revoice(pcm: Tensor, generator: torch.Generator) -> Tensor:
    """Draws a voice for each clip of `[B, N]`; of the same shape."""
    device, batch = pcm.device, len(pcm)
    window = torch.hann_window(_WINDOW_SAMPLES, device=device)

    def split(sound: Tensor) -> Tensor:
        return torch.stft(sound, _WINDOW_SAMPLES, _HOP_SAMPLES, window=window, return_complex=True)

    def unit() -> Tensor:
        return torch.rand(batch, 1, 1, device=device, generator=generator)

    spectrum = split(pcm)
    low, high = _QUEFRENCIES
    own = _envelope(spectrum, low + (high - low) * unit())
    stretch = torch.exp((2 * unit() - 1) * math.log(_STRETCH))
    stretch = torch.where(unit() < _STRETCHED, stretch, torch.ones_like(stretch))
    sounded = spectrum / own.exp()
    noise = _whitened(split(torch.randn(pcm.shape, device=device, generator=generator)))
    voiced = _voiced(own)
    hum = voiced * _whitened(split(_hum(pcm, generator))) + (1 - voiced) * noise
    which = unit()
    sounded = torch.where(which < _HUMMED, hum, sounded)
    sounded = torch.where(which > 1 - _WHISPERED, noise, sounded)
    made = torch.istft(
        sounded * _stretched(own, stretch).exp(),
        _WINDOW_SAMPLES,
        _HOP_SAMPLES,
        window=window,
        length=pcm.shape[1],
    )
    # Even the faintest breath would be made as loud as speech.
    return torch.where((pcm != 0).any(dim=1, keepdim=True), made, pcm)


def _envelope(spectrum: Tensor, quefrencies: Tensor) -> Tensor:
    """Logarithm of `[B, frequencies, T]` without its fine structure."""
    cepstrum = torch.fft.irfft(spectrum.abs().clamp(min=_SOFTEST).log(), dim=1)
    size = cepstrum.shape[1]
    order = torch.arange(size, device=spectrum.device)[None, :, None]
    order = torch.minimum(order, size - order)
    return torch.fft.rfft(cepstrum * (order <= quefrencies), dim=1).real


def _stretched(envelope: Tensor, stretch: Tensor) -> Tensor:
    """What was at f is at `stretch` times f, `[B, 1, 1]`; the topmost goes on beyond."""
    count = envelope.shape[1]
    place = (torch.arange(count, device=envelope.device)[None, :, None] / stretch).clamp(
        max=count - 1
    )
    below = place.floor().clamp(max=count - 2)
    share = place - below
    index = below.long().expand_as(envelope)
    return envelope.gather(1, index) * (1 - share) + envelope.gather(1, index + 1) * share


def _hum(like: Tensor, generator: torch.Generator) -> Tensor:
    """Pulses at a pitch of each clip's own that wanders a little, `[B, N]`."""
    batch, count = like.shape
    device = like.device
    low, high = _HUM_HZ
    middle = torch.rand(batch, 1, device=device, generator=generator)
    middle = low * torch.exp(middle * math.log(high / low))
    depth = 0.25 * torch.rand(batch, 1, device=device, generator=generator)
    steps = torch.randn(batch, 1, count // 4000 + 4, device=device, generator=generator)
    wander = torch.nn.functional.interpolate(steps, size=count, mode="linear", align_corners=True)[
        :, 0
    ]
    turns = torch.cumsum((middle * torch.exp(depth * wander)).double() / SAMPLE_RATE_HZ, dim=1)
    whole = turns.floor()
    return torch.diff(whole, dim=1, prepend=whole[:, :1]).clamp(0, 1).to(like.dtype)


def _voiced(envelope: Tensor) -> Tensor:
    """`[B, 1, T]` 0 to 1."""
    edge = round(_VOICED_BELOW_HZ / SAMPLE_RATE_HZ * _WINDOW_SAMPLES)
    to_db = 20 / math.log(10)
    below, above = envelope[:, 1:edge].mean(dim=1), envelope[:, edge:].mean(dim=1)
    return torch.sigmoid((to_db * (below - above) - _VOICED_DB) / 2)[:, None]


def _whitened(spectrum: Tensor) -> Tensor:
    """Of magnitude 1 in the mean over frequencies."""
    return spectrum / spectrum.abs().mean(dim=1, keepdim=True).clamp(min=_SOFTEST)
