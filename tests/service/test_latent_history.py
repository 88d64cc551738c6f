"""The history holds the last latents, and the still picture before the first."""

import numpy as np
import pytest
from mirrorme_service.latent_history import LatentHistory


def latents(*values: float) -> np.ndarray:
    return np.array(values, np.float32).reshape(-1, 1, 1, 1)


def test_still_picture_before_the_start() -> None:
    history = LatentHistory(latents(7)[0], num_kept=3)
    assert history.read(-2, 0).ravel().tolist() == [7, 7]
    history.append(latents(0, 1))
    assert history.read(-1, 2).ravel().tolist() == [7, 0, 1]


def test_the_last_are_kept() -> None:
    history = LatentHistory(latents(7)[0], num_kept=3)
    for value in range(10):
        history.append(latents(value))
    assert history.end == 10
    assert history.read(7, 10).ravel().tolist() == [7, 8, 9]
    with pytest.raises(AssertionError):
        history.read(6, 8)
    with pytest.raises(AssertionError):
        history.read(9, 11)
