"""Speech features without weights: energies in mel bands, two frames a feature.

Light presets have it in place of wav2vec2's convolutions, which are dear to train from nothing.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

_FRAME_SAMPLES = 240
_FRAME_STEP_SAMPLES = 160
_FRAMES_PER_FEATURE = 2
_LOWEST_HZ = 60.0
_AMPLITUDE = 256.0
"""Power then stays within half precision."""
_FLOOR = 6.5e-5
"""Power of a band at 90 dB below full scale."""

FEATURE_HOP_SAMPLES = _FRAMES_PER_FEATURE * _FRAME_STEP_SAMPLES
FEATURE_REACH_SAMPLES = (_FRAMES_PER_FEATURE - 1) * _FRAME_STEP_SAMPLES + _FRAME_SAMPLES


class LogMel(nn.Module):
    """`[B, N]` to `[B, channels, features]`; a feature starts every `FEATURE_HOP_SAMPLES`."""

    waves: Tensor
    bands: Tensor

    def __init__(self, channels: int, sample_rate_hz: int) -> None:
        super().__init__()
        waves = _waves()
        self.register_buffer("waves", waves[:, None], persistent=False)
        num_bands = channels // _FRAMES_PER_FEATURE
        bands = mel_bands(num_bands, len(waves) // 2, sample_rate_hz)
        self.register_buffer("bands", bands, persistent=False)

    def forward(self, pcm: Tensor) -> Tensor:
        """Bands of a feature's first frame, then of its second."""
        spectrum = nn.functional.conv1d(
            pcm[:, None] * _AMPLITUDE, self.waves, stride=_FRAME_STEP_SAMPLES
        )
        power = spectrum.square().unflatten(1, (2, -1)).sum(dim=1)
        levels = 0.5 * torch.log10(self.bands @ power + _FLOOR)
        by_feature = levels.unflatten(2, (-1, _FRAMES_PER_FEATURE))
        return by_feature.permute(0, 3, 1, 2).flatten(1, 2)


def mel_bands(num_bands: int, num_frequencies: int, sample_rate_hz: int) -> Tensor:
    """Triangles, evenly spaced on the mel scale: `[num_bands, num_frequencies]`."""
    highest_hz = sample_rate_hz / 2
    mels = torch.linspace(_mel(_LOWEST_HZ), _mel(highest_hz), num_bands + 2, dtype=torch.float64)
    edges = 700 * (10 ** (mels / 2595) - 1)
    hz = torch.linspace(0, highest_hz, num_frequencies, dtype=torch.float64)
    # No triangle is narrower than the spacing of frequencies, so none is empty.
    spacing = highest_hz / (num_frequencies - 1)
    low = torch.minimum(edges[:-2], edges[1:-1] - spacing)[:, None]
    high = torch.maximum(edges[2:], edges[1:-1] + spacing)[:, None]
    middle = edges[1:-1, None]
    rising, falling = (hz - low) / (middle - low), (high - hz) / (high - middle)
    return torch.minimum(rising, falling).clamp(min=0).float()


def _mel(hz: float) -> float:
    return 2595 * math.log10(1 + hz / 700)


def _waves() -> Tensor:
    """Cosines, then sines, below a Hann window: `[2 * frequencies, samples]`. A full-scale sine is
    of power 1/4 at its frequency."""
    samples = torch.arange(_FRAME_SAMPLES, dtype=torch.float64)
    window = torch.hann_window(_FRAME_SAMPLES, periodic=False, dtype=torch.float64)
    frequencies = torch.arange(_FRAME_SAMPLES // 2 + 1, dtype=torch.float64)
    angles = 2 * math.pi * frequencies[:, None] * samples / _FRAME_SAMPLES
    return (torch.cat([angles.cos(), angles.sin()]) * (window / window.sum())).float()
