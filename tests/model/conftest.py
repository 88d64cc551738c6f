"""Fixtures of the model's tests."""

from __future__ import annotations

import pytest
from mirrorme_model.avatar import AvatarModel
from mirrorme_model.presets import preset


@pytest.fixture(scope="session")
def tiny() -> AvatarModel:
    """Preset tiny with random weights, for tests that leave it as it is."""
    return AvatarModel.random(preset("tiny"), seed=5)
