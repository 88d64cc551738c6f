"""Opening a preset's engines, whole or not at all."""

from __future__ import annotations

import asyncio
import dataclasses
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from mirrorme_engines.batcher import BatchOptions
from mirrorme_engines.engine_options import EngineOptions
from mirrorme_engines.errors import EngineUnavailable, ManifestError
from mirrorme_engines.fake_manifest import fake_manifest
from mirrorme_engines.manifest import ROLES, Manifest
from mirrorme_engines.open_engines import open_engines

from tests.engines.onnx_models import save_tiny_model, tiny_spec


def tiny_manifest(folder: Path) -> Manifest:
    """All roles, and a second denoiser, by the same tiny model."""
    spec = tiny_spec(save_tiny_model(folder))
    engines = [
        dataclasses.replace(spec, name=role, role=role, num_steps=4 if role == "denoiser" else None)
        for role in ROLES
    ]
    engines.append(dataclasses.replace(engines[2], name="denoiser_2step", num_steps=2))
    manifest = dataclasses.replace(fake_manifest(), engines=tuple(engines))
    manifest.save(folder)
    return manifest


def engine_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("engine-")]


async def test_opens_every_engine_in_its_place(tmp_path: Path) -> None:
    manifest = tiny_manifest(tmp_path)
    engines = await open_engines(tmp_path)
    assert engines.manifest == manifest
    assert engines.platform.startswith("onnxruntime ")
    for role in ROLES:
        assert getattr(engines, role).spec.name == role
    assert [engine.spec.name for engine in engines.other_denoisers] == ["denoiser_2step"]
    assert len(engines.engines) == 5
    await engines.close()
    for engine in engines.engines:
        inputs = {t.name: np.zeros((1, *t.dims), t.dtype) for t in engine.spec.inputs}
        with pytest.raises(EngineUnavailable):
            await engine.infer(inputs)


async def test_one_bad_engine_opens_none(tmp_path: Path) -> None:
    manifest = tiny_manifest(tmp_path)
    broken = dataclasses.replace(manifest.engines[-1], sha256="0" * 64)
    dataclasses.replace(manifest, engines=(*manifest.engines[:-1], broken)).save(tmp_path)
    with pytest.raises(ManifestError, match="not the file"):
        await open_engines(tmp_path)
    assert engine_threads() == []


async def test_fakes_of_any_manifest(tmp_path: Path) -> None:
    fake_manifest(num_steps=(4, 2)).save(tmp_path)
    engines = await open_engines(tmp_path, EngineOptions(platform="fake"))
    assert engines.platform == "fake"
    assert [engine.spec.num_steps for engine in engines.other_denoisers] == [2]
    await engines.close()


async def test_the_loop_is_not_blocked_while_engines_open(tmp_path: Path) -> None:
    tiny_manifest(tmp_path)
    opening = asyncio.create_task(open_engines(tmp_path))
    num_turns = 0
    while not opening.done():
        await asyncio.sleep(0)
        num_turns += 1
    assert num_turns > 10
    await (await opening).close()


@pytest.mark.parametrize(
    ("kind", "settings", "said"),
    [
        (EngineOptions, {"num_threads": 0}, "num_threads is 0"),
        (BatchOptions, {"max_waiting_calls": 0}, "max_waiting_calls is 0"),
        (BatchOptions, {"default_timeout_s": 0}, "default_timeout_s is 0"),
        (BatchOptions, {"default_timeout_s": float("nan")}, "default_timeout_s is nan"),
        (BatchOptions, {"max_delay_s": -1}, "max_delay_s is -1"),
        (BatchOptions, {"close_grace_s": 0}, "close_grace_s is 0"),
    ],
)
def test_options_that_cannot_work_are_refused(kind: type, settings: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        kind(**settings)


def test_the_package_loads_no_platform_before_it_is_chosen() -> None:
    code = (
        "import sys, mirrorme_engines.open_engines;"
        "print([m for m in ('onnxruntime', 'torch', 'tritonclient') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "[]", result.stderr
