"""What many training tests only read from."""

from __future__ import annotations

from pathlib import Path

import pytest
from mirrorme_model.avatar import AvatarModel
from mirrorme_model.checkpoint import save_checkpoint
from mirrorme_model.presets import preset

from tests.training.training_runs import make_data


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of idle clips."""
    return make_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that later stages can start from."""
    path = tmp_path_factory.mktemp("start") / "checkpoint.safetensors"
    model = AvatarModel.random(preset("tiny"), 0, zero_adapters=True)
    save_checkpoint(path, model, trained=False, provenance={})
    return path
