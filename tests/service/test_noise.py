"""Noise is a function of seed and chunk."""

import numpy as np
from mirrorme_service.noise import chunk_noise

SHAPE = (1, 128, 8, 8)


def test_same_key_same_noise() -> None:
    np.testing.assert_array_equal(chunk_noise(5, 9, SHAPE), chunk_noise(5, 9, SHAPE))


def test_other_keys_other_noise() -> None:
    keys = [(0, 0), (0, 1), (1, 0), (1, 1), (2**64 - 1, 0), (0, 2**40)]
    noises = [chunk_noise(*key, SHAPE) for key in keys]
    for i, first in enumerate(noises):
        for second in noises[i + 1 :]:
            assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.05


def test_standard_normal() -> None:
    noise = chunk_noise(3, 4, (64, 128, 8, 8))
    assert noise.dtype == np.float32
    assert abs(noise.mean()) < 0.005
    assert abs(noise.std() - 1) < 0.005


def test_streams_are_those_of_earlier_releases() -> None:
    """A session taken up by another version goes on with the same noise."""
    np.testing.assert_allclose(
        chunk_noise(1, 2, (4,)), [-0.36082658, -0.20863281, -0.12069435, -0.87194579], rtol=1e-6
    )
