"""One real Triton server for all tests that only read from it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from mirrorme_engines.manifest import Manifest
from mirrorme_export.triton_repository import TritonOptions, write_triton_repository

from tests.triton.small_repository import write_small_repository
from tests.triton.triton_process import TritonProcess


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model repository for Triton's Python backend."""
    folder = tmp_path_factory.mktemp("models")
    write_small_repository(folder)
    write_triton_repository(folder, TritonOptions(platform="python"))
    return folder


@pytest.fixture(scope="session")
def manifest(models: Path) -> Manifest:
    return Manifest.load(models)


@pytest.fixture(scope="session")
def server(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonProcess]:
    process = TritonProcess(models, tmp_path_factory.mktemp("log") / "triton.log")
    # The first start installs the server.
    process.start(timeout_s=300)
    yield process
    process.stop()
