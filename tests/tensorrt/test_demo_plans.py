"""`demo`, as `make export` left it: TensorRT for RTX builds all its engines, without a GPU."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

import pytest
from mirrorme_engines.manifest import Manifest
from mirrorme_export.tensorrt_export import build_plans, check_plans
from mirrorme_export.tensorrt_target import TensorRTOptions

pytestmark = pytest.mark.tensorrt

DEMO = Path(__file__).parents[2] / "engines/repository/demo"


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy: plans of a test have no place beside what is served."""
    if not (DEMO / "manifest.json").exists():
        pytest.fail(f"no {DEMO}: `make test-tensorrt` exports it")
    plans = shutil.ignore_patterns("*.plan", "*.plan.json")
    return shutil.copytree(DEMO, tmp_path_factory.mktemp("plans") / "demo", ignore=plans)


@pytest.mark.parametrize("gpu", ["sm89", "sm120"])
def test_every_engine_builds(demo: Path, gpu: str) -> None:
    options = TensorRTOptions(gpu=gpu, precision="fp16")
    report = build_plans(demo, options, step=lambda _name: contextlib.nullcontext())
    names = [spec.name for spec in Manifest.load(demo).engines]
    assert {"identity_encoder", "audio_encoder", "denoiser", "decoder"} <= set(names)
    assert [row.engine for row in report.rows] == names
    for row in report.rows:
        assert not row.from_cache
        # Of a linear VAE there are few.
        assert row.facts.num_network_layers > 5, row.engine
        # At "none", fp16 was too coarse, and the plan computes in fp32.
        assert row.precision_level != "none", row.engine
    assert [record.source.engine for record in check_plans(demo, options)] == names
