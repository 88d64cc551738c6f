"""The `mirrorme-export` command, as a person meets it."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from mirrorme_engines.manifest import Manifest
from mirrorme_export.cpu_int8 import Int8Report
from mirrorme_export.exporter import Export
from mirrorme_export.onnx_command import PRESETS
from mirrorme_export.onnx_command import onnx_command as main
from mirrorme_export.parity import ParityReport, ParityRow
from mirrorme_export.weights import Shape, checkpoint_model, random_model
from mirrorme_model.avatar import AvatarModel
from mirrorme_model.checkpoint import save_checkpoint


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, arguments)
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.exit_code, result.output


def checkpoint(folder: Path, model: AvatarModel, *, trained: bool = True) -> Path:
    path = folder / "tiny.safetensors"
    save_checkpoint(path, model, trained=trained, provenance={"made_by": "test"})
    return path


def test_presets_are_the_models() -> None:
    from mirrorme_model import presets

    assert PRESETS == presets.PRESETS


def test_help_is_quick_and_tells_all() -> None:
    code = (
        "import sys; from click.testing import CliRunner; from mirrorme_export.cli import main;"
        "print(CliRunner().invoke(main, ['onnx', '--help']).output); print('torch' in sys.modules)"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
    assert output.strip().endswith("False")
    for word in ("--checkpoint", "--output", "--seed", "manifest.json", "Examples", "tiny|demo"):
        assert word in output


@pytest.mark.parametrize(
    ("arguments", "exit_code", "said"),
    [
        (["none"], 2, "'none' is not one of"),
        (["tiny", "--size", "64"], 2, "want WIDTHxHEIGHT"),
        (["tiny", "--size", "64xtall"], 2, "want WIDTHxHEIGHT"),
        (["tiny", "--random", "--checkpoint", "x"], 2, "exclude each other"),
        (["tiny", "--max-batch-size", "0"], 2, "0 is not in the range"),
        (["tiny", "--random", "--size", "70x64"], 1, "Error: width_px is 70"),
        (["tiny", "--checkpoint", "/none.safetensors"], 1, "no checkpoint /none.safetensors"),
        (["tiny", "--random", "--also-steps", "2"], 1, "a further denoiser of 2 steps"),
        (["tiny", "--random", "--output", "/dev/null/x"], 1, "Error: "),
        (["tiny", "--random", "--calibration", "/none"], 2, "'/none' does not exist"),
        (
            ["tiny", "--random", "--cpu-precision", "fp32", "--calibration", "."],
            2,
            "--calibration is for --cpu-precision int8",
        ),
    ],
)
def test_mistakes_are_told_without_a_traceback(
    arguments: list[str], exit_code: int, said: str
) -> None:
    got, output = run(*arguments)
    assert (got, "Traceback" in output) == (exit_code, False)
    assert said in output


def test_a_checkpoint_of_another_preset_is_refused(tmp_path: Path, tiny_model: AvatarModel) -> None:
    path = checkpoint(tmp_path, tiny_model)
    exit_code, output = run("demo", "--checkpoint", str(path))
    assert exit_code == 1
    assert "is of preset 'tiny', not 'demo'" in output


def test_a_checkpoint_keeps_its_weights_in_another_shape(
    tmp_path: Path, tiny_model: AvatarModel
) -> None:
    path = checkpoint(tmp_path, tiny_model)
    same, trained = checkpoint_model("tiny", Shape(), path)
    assert trained and same.weights_sha256() == tiny_model.weights_sha256()
    wide, _ = checkpoint_model("tiny", Shape(width_px=96, chunk_latents=2), path)
    assert (wide.config.video.width_px, wide.config.video.height_px) == (96, 64)
    assert wide.config.chunk.num_latents == 2
    for name, tensor in tiny_model.state_dict().items():
        assert wide.state_dict()[name].equal(tensor), name


def test_seeds_differ_and_repeat() -> None:
    hashes = [random_model("tiny", Shape(), seed).weights_sha256() for seed in (0, 0, 1)]
    assert hashes[0] == hashes[1] != hashes[2]


@pytest.fixture
def fake_export(monkeypatch: pytest.MonkeyPatch, tiny_export: Export) -> dict:
    """Records what the command asks for, and gives the shared export."""
    asked: dict = {}

    def export(model: AvatarModel, target: Path, **options) -> Export:
        asked.update(options, model=model, target=target)
        with options["step"]("export something"):
            return tiny_export

    monkeypatch.setattr("mirrorme_export.exporter.export_model", export)
    return asked


def test_the_default_checkpoint_is_taken_when_it_is_there(
    tmp_path: Path, tiny_model: AvatarModel, fake_export: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    exit_code, output = run("tiny", "--seed", "5")
    assert (exit_code, fake_export["trained"]) == (0, False)
    assert "The weights are random" in output
    (tmp_path / "weights").mkdir()
    checkpoint(tmp_path / "weights", tiny_model)
    exit_code, output = run("tiny")
    assert (exit_code, fake_export["trained"]) == (0, True)
    assert fake_export["model"].weights_sha256() == tiny_model.weights_sha256()
    assert fake_export["target"] == Path("engines/repository/tiny")
    assert "random" not in output
    exit_code, output = run("tiny", "--random")
    assert (exit_code, fake_export["trained"]) == (0, False)


def test_the_examples_calibrate_8_bits_where_they_are(
    tmp_path: Path, fake_export: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("tiny", "--random", "--cpu-precision", "int8")[0] == 2
    exit_code, output = run("demo", "--random")
    assert exit_code == 0 and fake_export["calibration"] is None
    assert "The decoder is in 32 bits" in output and "--calibration" in output
    (tmp_path / "examples").mkdir()
    for arguments, folder in (
        (["demo"], Path("examples")),
        (["demo", "--cpu-precision", "fp32"], None),
        (["demo", "--calibration", str(tmp_path)], tmp_path),
        (["tiny"], None),
        (["tiny", "--cpu-precision", "int8"], Path("examples")),
    ):
        exit_code, output = run(*arguments, "--random")
        assert exit_code == 0 and "The decoder is in 32 bits" not in output
        assert fake_export["calibration"] == folder, arguments


@pytest.mark.parametrize(("psnr_db", "said"), [(48.0, "for CPUs: 48.0 dB"), (30.0, "run float32")])
def test_8_bits_are_told(
    fake_export: dict,
    tiny_export: Export,
    monkeypatch: pytest.MonkeyPatch,
    psnr_db: float,
    said: str,
) -> None:
    report = dataclasses.replace(
        tiny_export.parity, int8=Int8Report("decoder", 5, 16, 64, psnr_db, 40.0, 0.0)
    )
    export = dataclasses.replace(tiny_export, parity=report)
    monkeypatch.setattr("mirrorme_export.exporter.export_model", lambda *_a, **_o: export)
    assert said in run("tiny", "--random")[1]


def test_steps_and_tables_are_shown(fake_export: dict) -> None:
    _, output = run("tiny", "--random")
    assert "✓ export something" in output and " s\n" in output
    for word in ("batch 8", "allowed", "denoiser_1step", "frames [8, 64, 64, 3]", "MB"):
        assert word in output


def test_a_failed_comparison_shows_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    from mirrorme_export.errors import ParityError

    row = ParityRow("decoder", "frames", 8, 7.0, 0.1, 255.0, 0.0, 1.0)

    def export(*_args, **_options) -> Export:
        raise ParityError(ParityReport((row,)), Path("report.json"))

    monkeypatch.setattr("mirrorme_export.exporter.export_model", export)
    exit_code, output = run("tiny", "--random")
    assert exit_code == 1
    assert "7.0e+00" in output and "decoder and torch differ" in output
    assert "report.json" in output and "Traceback" not in output


@pytest.mark.slow
def test_two_processes_export_the_same_bytes(tmp_path: Path, tiny_export: Export) -> None:
    """And the command does the whole work by itself."""
    command = Path(sys.executable).with_name("mirrorme-export")
    arguments = ["onnx", "tiny", "--random", "--also-steps", "1", "--output", str(tmp_path)]
    result = subprocess.run([command, *arguments], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "Warning" not in result.stderr and result.stdout == ""
    manifest = Manifest.load(tmp_path / "tiny")
    assert manifest == tiny_export.manifest
    names = ("manifest.json",)
    for name in names:
        here, there = tmp_path / "tiny" / name, tiny_export.folder / name
        assert json.loads(here.read_text()) == json.loads(there.read_text())
