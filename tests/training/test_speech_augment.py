"""Augmentation keeps speech where it is."""

from __future__ import annotations

import numpy as np
import pytest
from mirrorme_training.speech import Phone, Speech
from mirrorme_training.speech_augment import AugmentConfig, augment, warp

RATE = 16_000


def burst(start: int, length: int, count: int) -> np.ndarray:
    samples = np.zeros(count, np.float32)
    samples[start : start + length] = np.random.default_rng(0).normal(0, 0.2, length)
    return samples


ALWAYS = AugmentConfig(equalise=1, room=1, noise=1, line=1, clip=1)


def test_same_seed_same_sound() -> None:
    speech = burst(4000, 8000, 20_000)
    first = augment(speech, np.random.default_rng(3), ALWAYS)
    assert np.array_equal(first, augment(speech, np.random.default_rng(3), ALWAYS))
    assert not np.array_equal(first, augment(speech, np.random.default_rng(4), ALWAYS))


@pytest.mark.parametrize("seed", range(8))
def test_speech_stays_in_place_and_in_range(seed: int) -> None:
    speech = burst(4000, 8000, 20_000)
    heard = augment(speech, np.random.default_rng(seed), ALWAYS)
    assert heard.shape == speech.shape and heard.dtype == np.float32
    assert np.isfinite(heard).all() and np.abs(heard).max() <= 1
    envelope = np.abs(heard).reshape(-1, 200).mean(1)
    loud = np.nonzero(envelope > 0.6 * np.percentile(envelope, 80))[0]
    assert abs(loud[0] * 200 - 4000) <= 400
    assert envelope[20:60].mean() > 1.5 * envelope[:18].mean()


def test_level_is_within_the_config() -> None:
    speech = burst(0, 16_000, 16_000)
    for seed in range(6):
        plain = AugmentConfig(0, 0, 0, 0, 0, min_level_db=-30, max_level_db=-20)
        heard = augment(speech, np.random.default_rng(seed), plain)
        level_db = 20 * np.log10(np.sqrt(np.mean(heard**2)))
        assert -32 < level_db < -19


def test_warp_moves_the_phones_with_the_sound() -> None:
    speech = Speech(burst(8000, 1600, 16_000), RATE, (Phone("aa", 0.5, 0.6),), "arpabet")
    faster = warp(speech, 1.25)
    assert len(faster.samples) == pytest.approx(16_000 / 1.25, abs=20)
    assert faster.phones[0].start_s == pytest.approx(0.4)
    loud = np.nonzero(np.abs(faster.samples) > 0.1)[0]
    assert loud[0] / RATE == pytest.approx(0.4, abs=0.01)
