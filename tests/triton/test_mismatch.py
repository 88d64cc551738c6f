"""What does not fit is found at start, and both sides are named."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from mirrorme_engines.errors import EngineUnavailable, ManifestError
from mirrorme_engines.manifest import EngineSpec, Manifest, TensorSpec
from mirrorme_engines.triton_engine import open_triton_engines
from mirrorme_engines.triton_options import TritonOptions

from tests.triton.triton_process import TritonProcess

pytestmark = pytest.mark.triton


def change_denoiser(manifest: Manifest, **changes: object) -> Manifest:
    engines = tuple(
        dataclasses.replace(spec, **changes) if spec.role == "denoiser" else spec
        for spec in manifest.engines
    )
    return dataclasses.replace(manifest, engines=engines)


def changed_input(spec: EngineSpec, **changes: object) -> tuple[TensorSpec, ...]:
    first, *others = spec.inputs
    return (dataclasses.replace(first, **changes), *others)


async def refusal(manifest: Manifest, server: TritonProcess, folder: Path) -> str:
    manifest.save(folder)
    with pytest.raises(ManifestError) as caught:
        await open_triton_engines(folder, TritonOptions((server.address,)))
    assert not caught.value.retryable
    assert server.address in str(caught.value)
    return str(caught.value)


async def test_other_weights(manifest: Manifest, server: TritonProcess, tmp_path: Path) -> None:
    said = await refusal(dataclasses.replace(manifest, weights_sha256="a" * 64), server, tmp_path)
    assert f"weights: the server has {manifest.weights_sha256}, the manifest {'a' * 64}" in said
    assert said.count("weights:") == 1


async def test_stale_onnx(manifest: Manifest, server: TritonProcess, tmp_path: Path) -> None:
    said = await refusal(change_denoiser(manifest, sha256="b" * 64), server, tmp_path)
    assert f"the manifest {'b' * 64}" in said and "model denoiser: ONNX file" in said


async def test_missing_model(manifest: Manifest, server: TritonProcess, tmp_path: Path) -> None:
    spec = manifest.engine("denoiser")
    more = dataclasses.replace(spec, name="denoiser_1", file="denoiser_1/1/model.onnx")
    wanted = dataclasses.replace(manifest, engines=(*manifest.engines, more))
    assert "model denoiser_1: missing on the server" in await refusal(wanted, server, tmp_path)


async def test_other_version(manifest: Manifest, server: TritonProcess, tmp_path: Path) -> None:
    wanted = change_denoiser(manifest, file="denoiser/7/model.onnx")
    said = await refusal(wanted, server, tmp_path)
    assert "model denoiser: the server has versions 1, the manifest version 7" in said


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"dims": (1, 8, 3, 2)}, ["noise TYPE_FP32 [1, 8, 2, 2]", "noise TYPE_FP32 [1, 8, 3, 2]"]),
        ({"dtype": "int64"}, ["noise TYPE_FP32 [1, 8, 2, 2]", "noise TYPE_INT64 [1, 8, 2, 2]"]),
        ({"name": "noises"}, ["noise TYPE_FP32 [1, 8, 2, 2]", "noises TYPE_FP32 [1, 8, 2, 2]"]),
    ],
)
async def test_other_input(
    manifest: Manifest,
    server: TritonProcess,
    tmp_path: Path,
    changes: dict[str, object],
    words: list[str],
) -> None:
    inputs = changed_input(manifest.engine("denoiser"), **changes)
    said = await refusal(change_denoiser(manifest, inputs=inputs), server, tmp_path)
    server_side, _, manifest_side = said.partition(", the manifest ")
    assert words[0] in server_side and words[1] in manifest_side


async def test_smaller_batches(manifest: Manifest, server: TritonProcess, tmp_path: Path) -> None:
    said = await refusal(change_denoiser(manifest, max_batch_size=8), server, tmp_path)
    assert "max_batch_size: the server has 4, the manifest 8" in said


async def test_file_outside_a_repository(
    manifest: Manifest, server: TritonProcess, tmp_path: Path
) -> None:
    change_denoiser(manifest, file="denoiser.onnx").save(tmp_path)
    with pytest.raises(ManifestError, match="Triton wants denoiser/<version>/<file>"):
        await open_triton_engines(tmp_path, TritonOptions((server.address,)))


async def test_no_server(models: Path) -> None:
    options = TritonOptions(("127.0.0.1:9",), start_timeout_s=0.5)
    with pytest.raises(EngineUnavailable, match=r"no Triton server within 0.5 s: .*127.0.0.1:9"):
        await open_triton_engines(models, options)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda m: dataclasses.replace(m, weights_sha256="c" * 64),
            f"the manifest {'c' * 64}",
        ),
        (lambda m: change_denoiser(m, sha256="d" * 64), f"the manifest {'d' * 64}"),
        (
            lambda m: change_denoiser(m, name="other", file="other/1/model.onnx"),
            "model other: missing on the server",
        ),
        (
            lambda m: change_denoiser(m, file="denoiser/2/model.onnx"),
            "the server has versions 1, the manifest version 2",
        ),
    ],
    ids=["weights", "stale", "missing", "version"],
)
def test_the_gateway_does_not_start(
    manifest: Manifest,
    server: TritonProcess,
    tmp_path: Path,
    change: Callable[[Manifest], Manifest],
    said: str,
) -> None:
    change(manifest).save(tmp_path)
    command = [sys.executable, "-m", "mirrorme_service", f"--engines={tmp_path}"]
    command += ["--platform=triton", f"--triton-endpoints={server.address}"]
    command += ["--port=0", "--metrics-port=0"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    told = ended.stdout + ended.stderr
    assert "cannot start" in told and server.address in told and said in told
    assert "Traceback" not in told


def test_damaged_file_ends_the_server(models: Path, tmp_path: Path) -> None:
    folder = tmp_path / "models"
    shutil.copytree(models, folder)
    damaged = folder / "decoder/1/model.onnx"
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    server = TritonProcess(folder, tmp_path / "log")
    server.launch()
    assert server.wait() != 0
    assert "decoder/1/model.onnx has sha256" in server.log()
    assert "the file is damaged or stale, export again" in server.log()


def test_missing_file_ends_the_server(models: Path, tmp_path: Path) -> None:
    folder = tmp_path / "models"
    shutil.copytree(models, folder)
    (folder / "decoder/1/model.onnx").unlink()
    server = TritonProcess(folder, tmp_path / "log")
    server.launch()
    assert server.wait() != 0
    assert "decoder/1/model.onnx cannot be read: " in server.log()


def test_folder_that_is_no_export(tmp_path: Path) -> None:
    server = TritonProcess(tmp_path, tmp_path / "log")
    server.launch()
    assert server.wait() == 1
    assert "manifest.json: run `make export` first" in server.log()
