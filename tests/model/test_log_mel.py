"""Mel bands: tones are where they belong, levels are as defined, and nothing is empty."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from mirrorme_model.errors import ConfigError
from mirrorme_model.log_mel import FEATURE_HOP_SAMPLES, FEATURE_REACH_SAMPLES, LogMel, mel_bands
from mirrorme_model.presets import preset
from torch import Tensor

RATE_HZ = 16_000
BANDS = 32


def tone(hz: float, amplitude: float = 1.0, num_samples: int = 4000) -> Tensor:
    time_s = torch.arange(num_samples, dtype=torch.float64) / RATE_HZ
    return (amplitude * torch.sin(2 * math.pi * hz * time_s)).float()[None]


def loudest_band(hz: float) -> int:
    return int(LogMel(2 * BANDS, RATE_HZ)(tone(hz))[0, :BANDS, 3].argmax())


def test_higher_tones_are_in_higher_bands() -> None:
    found = [loudest_band(hz) for hz in (150, 400, 1000, 2500, 6000)]
    assert found == sorted(set(found))


def test_ten_times_the_amplitude_is_one_more() -> None:
    mel = LogMel(2 * BANDS, RATE_HZ)
    band = loudest_band(1000)
    quiet, loud = (mel(tone(1000, level))[0, band, 3] for level in (0.01, 0.1))
    assert float(loud - quiet) == pytest.approx(1.0, abs=0.01)


def test_silence_is_finite_and_below_a_whisper() -> None:
    mel = LogMel(2 * BANDS, RATE_HZ)
    silence = mel(torch.zeros(1, 4000))
    assert silence.isfinite().all()
    whisper = mel(0.001 * torch.randn(1, 4000, generator=torch.Generator().manual_seed(0)))
    assert (whisper[..., 1:-1] > silence[..., 1:-1]).all()


def test_no_band_is_empty() -> None:
    assert (mel_bands(BANDS, 121, RATE_HZ).sum(dim=1) > 0).all()


def test_features_are_of_their_own_samples() -> None:
    """Feature i is made of `FEATURE_REACH_SAMPLES` from i hops on, and of nothing else."""
    mel = LogMel(2 * BANDS, RATE_HZ)
    num_features = 6
    pcm = torch.randn(1, (num_features - 1) * FEATURE_HOP_SAMPLES + FEATURE_REACH_SAMPLES)
    whole = mel(pcm)
    assert whole.shape == (1, 2 * BANDS, num_features)
    for i in range(num_features):
        start = i * FEATURE_HOP_SAMPLES
        alone = mel(pcm[:, start : start + FEATURE_REACH_SAMPLES])
        torch.testing.assert_close(alone[..., 0], whole[..., i], atol=1e-5, rtol=0)


def test_a_geometry_that_bands_do_not_have_is_refused() -> None:
    backbone = preset("demo").audio.backbone
    with pytest.raises(ConfigError, match="log_mel"):
        dataclasses.replace(backbone, conv_stride=(160,))
