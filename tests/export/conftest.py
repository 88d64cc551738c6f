"""One export of `tiny`, shared by all tests that only look at it."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from mirrorme_export.engine_graphs import EngineGraph, engine_graphs
from mirrorme_export.exporter import Export, export_model
from mirrorme_export.weights import Shape, random_model
from mirrorme_model.avatar import AvatarModel


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The export counts into the time of the first test that wants it."""
    for item in items:
        if isinstance(item, pytest.Function) and "tiny_export" in item.fixturenames:
            item.add_marker(pytest.mark.timeout(1800))


@pytest.fixture(scope="session")
def tiny_model() -> AvatarModel:
    return random_model("tiny", Shape(), seed=0)


@pytest.fixture(scope="session")
def tiny_graphs() -> list[EngineGraph]:
    """What `tiny_export` was exported from, in torch."""
    return engine_graphs(random_model("tiny", Shape(), seed=0), (1,))


@pytest.fixture(scope="session")
def tiny_steps() -> list[str]:
    return []


@pytest.fixture(scope="session")
def tiny_export(tiny_steps: list[str], tmp_path_factory: pytest.TempPathFactory) -> Export:
    @contextlib.contextmanager
    def step(name: str):
        tiny_steps.append(name)
        yield

    target = Path(tmp_path_factory.mktemp("repository")) / "tiny"
    model = random_model("tiny", Shape(), seed=0)
    return export_model(model, target, trained=False, step=step, other_steps=(1,))
