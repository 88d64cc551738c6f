"""The decoder in 8 bits: what CPUs run, how far off it is, and when it is left out."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
from mirrorme_engines.engine_options import EngineOptions
from mirrorme_engines.errors import ManifestError
from mirrorme_engines.manifest import Manifest, OnnxFile, engine_sha256
from mirrorme_engines.onnxruntime_engine import open_onnxruntime_engine
from mirrorme_export import cpu_int8
from mirrorme_export.cpu_int8 import Int8Report, quantise_decoder
from mirrorme_export.errors import InvalidRequest
from mirrorme_export.exporter import Export
from mirrorme_export.serving_repository import RepositoryOptions, make_repository
from mirrorme_export.session_player import Sample, SessionPlayer, open_session
from mirrorme_export.triton_repository import TritonOptions, model_config
from mirrorme_model.vae_config import HAND_CHANNELS

from tests.export.test_tensorrt_export import quiet
from tests.triton.small_repository import write_small_repository

INT8_FILE = "decoder/1/model.int8.onnx"


def samples(manifest: Manifest) -> list[Sample]:
    random = np.random.default_rng(0)
    size = (manifest.video.height_px, manifest.video.width_px, 3)
    pcm = random.normal(0, 0.1, 32000).astype(np.float32)
    return [Sample(random.integers(0, 256, size, np.uint8), pcm) for _ in range(3)]


def copied(export: Export, folder: Path) -> Path:
    return Path(shutil.copytree(export.folder, folder / "tiny"))


@pytest.fixture(scope="module")
def quantised(
    tiny_export: Export, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Manifest, Int8Report]:
    folder = copied(tiny_export, tmp_path_factory.mktemp("int8"))
    manifest, report = quantise_decoder(folder, tiny_export.manifest, samples(tiny_export.manifest))
    manifest.save(folder)
    return folder, manifest, report


def windows(folder: Path, manifest: Manifest, num_rows: int) -> dict[str, np.ndarray]:
    """What the decoder is given in a session of a portrait that scales are not taken of."""
    (tensor,) = manifest.engine("decoder").inputs
    denoiser = open_session(folder / manifest.engine("denoiser").file)
    played = SessionPlayer(folder, manifest).play(
        samples(manifest)[-1], denoiser, first_chunk=20, num_chunks=num_rows
    )
    return {tensor.name: played.windows}


def test_it_lies_beside_the_exact_one_and_is_near_it(
    quantised: tuple[Path, Manifest, Int8Report], tiny_export: Export
) -> None:
    folder, manifest, report = quantised
    spec = manifest.engine("decoder")
    assert spec.cpu == OnnxFile(INT8_FILE, engine_sha256(folder / INT8_FILE))
    assert dataclasses.replace(spec, cpu=None) == tiny_export.manifest.engine("decoder")
    assert report.passed and report.num_convolutions > 3 and report.num_frames == 64
    exact, int8 = (
        open_session(folder / file).run(None, windows(folder, manifest, 3))[0].astype(float)
        for file in (spec.file, INT8_FILE)
    )
    assert 0 < np.abs(exact - int8).mean() < 2, "levels of 255"


def test_hands_that_are_told_count_in_8_bits(
    quantised: tuple[Path, Manifest, Int8Report],
) -> None:
    folder, manifest, _ = quantised
    told = windows(folder, manifest, 2)
    untold = {name: latents.copy() for name, latents in told.items()}
    untold["latents"][:, :, -HAND_CHANNELS:] = 0
    changes = []
    for file in (manifest.engine("decoder").file, INT8_FILE):
        session = open_session(folder / file)
        before, after = (session.run(None, inputs)[0].astype(float) for inputs in (untold, told))
        changes.append((after - before).ravel())
    exact, int8 = changes
    assert np.abs(exact).mean() > 0.5
    assert np.corrcoef(exact, int8)[0, 1] > 0.9


def test_the_same_sessions_make_the_same_bytes(
    quantised: tuple[Path, Manifest, Int8Report], tiny_export: Export, tmp_path: Path
) -> None:
    folder = copied(tiny_export, tmp_path)
    manifest, report = quantise_decoder(folder, tiny_export.manifest, samples(tiny_export.manifest))
    assert (manifest, report) == quantised[1:]
    assert str(tmp_path).encode() not in (folder / INT8_FILE).read_bytes()


async def test_cpus_run_it_and_rows_of_a_batch_are_rows_alone(
    quantised: tuple[Path, Manifest, Int8Report],
) -> None:
    folder, manifest, _ = quantised
    spec = manifest.engine("decoder")
    engine = open_onnxruntime_engine(folder, spec, EngineOptions())
    batch = windows(folder, manifest, 8)
    frames = (await engine.infer(batch))["frames"]
    await engine.close()
    session = open_session(folder / INT8_FILE)
    for row, got in enumerate(frames):
        alone = {name: array[row : row + 1] for name, array in batch.items()}
        assert session.run(None, alone)[0].tobytes() == got.tobytes()
    assert spec.onnx_file(on_cpu=False).file == spec.file, "other devices run the exact one"


def test_a_changed_one_is_refused(
    quantised: tuple[Path, Manifest, Int8Report], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(quantised[0], tmp_path / "tiny"))
    path = folder / INT8_FILE
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(ManifestError, match=r"model\.int8\.onnx is not the file"):
        open_onnxruntime_engine(folder, quantised[1].engine("decoder"), EngineOptions())


@pytest.mark.parametrize(
    ("options", "file"),
    [
        (TritonOptions(platform="onnxruntime_onnx"), "model.int8.onnx"),
        (TritonOptions(platform="python"), "model.int8.onnx"),
        (TritonOptions(platform="onnxruntime_onnx", device="gpu"), "model.onnx"),
    ],
    ids=["onnxruntime-cpu", "python", "onnxruntime-gpu"],
)
def test_triton_runs_it_on_cpus(
    quantised: tuple[Path, Manifest, Int8Report], options: TritonOptions, file: str
) -> None:
    manifest = quantised[1]
    spec = manifest.engine("decoder")
    config = model_config(manifest, spec, options)
    parameters = {key: value.string_value for key, value in config.parameters.items()}
    if options.platform == "python":
        assert (parameters["onnx_file"], spec.cpu and spec.cpu.sha256) == (
            file,
            parameters["onnx_sha256"],
        )
    else:
        assert config.default_model_filename == file
    assert parameters["mirrorme_engine_sha256"] == spec.sha256, "what clients compare"


def test_a_servers_repository_has_it(
    quantised: tuple[Path, Manifest, Int8Report], tmp_path: Path
) -> None:
    options = RepositoryOptions(TritonOptions(platform="python"))
    make_repository(quantised[0], tmp_path / "served", options, step=quiet)
    assert (tmp_path / "served" / INT8_FILE).exists()


def test_one_that_is_too_far_off_is_left_out_and_told(
    tiny_export: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu_int8, "MIN_PSNR_DB", 99.0)
    folder = copied(tiny_export, tmp_path)
    manifest, report = quantise_decoder(folder, tiny_export.manifest, samples(tiny_export.manifest))
    assert manifest == tiny_export.manifest
    assert not report.passed and report.psnr_db < report.limit_db == 99
    assert not (folder / INT8_FILE).exists()


def test_a_decoder_without_convolutions_is_refused(tmp_path: Path) -> None:
    manifest = write_small_repository(tmp_path)
    with pytest.raises(InvalidRequest, match="decoder has no convolutions"):
        quantise_decoder(tmp_path, manifest, samples(manifest))
