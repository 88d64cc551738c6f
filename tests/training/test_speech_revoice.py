"""Other voices say the same at the same time."""

from __future__ import annotations

import pytest
import torch
from mirrorme_training.speech import SAMPLE_RATE_HZ
from mirrorme_training.speech_revoice import revoice

COUNT = SAMPLE_RATE_HZ
VOICES = 24


def vowel(formant_hz: float, pitch_hz: float = 110.0) -> torch.Tensor:
    """A second of pulses at a pitch through one resonance; the middle half of it sounds."""
    time_s = torch.arange(COUNT) / SAMPLE_RATE_HZ
    pulses = torch.zeros(COUNT)
    pulses[torch.arange(COUNT // 4, 3 * COUNT // 4, int(SAMPLE_RATE_HZ / pitch_hz))] = 1
    ringing = torch.exp(-time_s * 300) * torch.sin(2 * torch.pi * formant_hz * time_s)
    size = 2 * COUNT
    sound = torch.fft.irfft(torch.fft.rfft(pulses, size) * torch.fft.rfft(ringing, size), size)
    return 0.5 * sound[:COUNT] / sound.abs().max()


def loudness(sound: torch.Tensor) -> torch.Tensor:
    return sound.unflatten(-1, (-1, 400)).square().mean(-1).sqrt()


def brightest_hz(sound: torch.Tensor) -> torch.Tensor:
    """Where the smoothed spectrum is highest."""
    power = torch.fft.rfft(sound).abs().square()
    smooth = torch.nn.functional.avg_pool1d(power[:, None], 201, 1, 100)[:, 0]
    return smooth[:, 200:].argmax(dim=1).float() + 200


@pytest.fixture(scope="module")
def made() -> torch.Tensor:
    """One vowel in many voices."""
    return revoice(vowel(1200.0).expand(VOICES, -1), torch.Generator().manual_seed(0))


def test_speech_stays_where_it_is(made: torch.Tensor) -> None:
    level = loudness(made)
    assert made.shape == (VOICES, COUNT) and made.isfinite().all()
    inside, outside = level[:, 11:29].mean(1), torch.cat([level[:, :8], level[:, 32:]], 1).mean(1)
    assert (inside > 8 * outside).all()


def test_formants_go_up_and_down_by_a_quarter_at_most(made: torch.Tensor) -> None:
    heard = brightest_hz(made) / 1200
    assert heard.min() < 0.93 and heard.max() > 1.07
    assert ((heard > 0.72) & (heard < 1.4)).all()
    assert abs(heard.median() - 1) < 0.12


def test_some_voices_have_another_pitch_and_some_have_none(made: torch.Tensor) -> None:
    part = made[:, COUNT // 4 : 3 * COUNT // 4]
    power = torch.fft.rfft(part * torch.hann_window(part.shape[1]), 2 * COUNT).abs().square()
    alike = torch.fft.irfft(power)[:, : SAMPLE_RATE_HZ // 60]
    alike = alike / alike[:, :1]
    own = alike[:, 140:152].amax(1)
    assert (own > 0.6).sum() >= VOICES // 3
    other = alike[:, 40:].amax(1)
    assert (other < 0.5).any()
    assert ((own < 0.5) & (other > 0.5)).any()


def test_silence_stays_silent() -> None:
    assert not revoice(torch.zeros(3, COUNT), torch.Generator().manual_seed(1)).any()


def test_the_same_seed_draws_the_same_voices() -> None:
    given = vowel(900.0).expand(4, -1)
    first, again, other = (revoice(given, torch.Generator().manual_seed(s)) for s in (2, 2, 3))
    assert torch.equal(first, again) and not torch.allclose(first, other)
