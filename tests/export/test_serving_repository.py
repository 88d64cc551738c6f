"""What a server's pod serves: made whole or not at all, from plans that are built once."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from google.protobuf import text_format
from mirrorme_engines.errors import ManifestError
from mirrorme_engines.gpu import Gpu
from mirrorme_engines.manifest import Manifest
from mirrorme_export import tensorrt_export
from mirrorme_export.errors import InvalidRequest
from mirrorme_export.repository_command import repository_command
from mirrorme_export.serving_repository import RepositoryOptions, make_repository
from mirrorme_export.tensorrt_report import TensorRTReport
from mirrorme_export.tensorrt_target import TensorRTOptions, load_tensorrt
from mirrorme_export.triton_repository import TritonOptions
from tritonclient.grpc import model_config_pb2

from tests.export.test_tensorrt_export import quiet
from tests.triton.small_repository import write_small_repository

GPU = TritonOptions(platform="tensorrt_plan", device="gpu")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export, and a cache that holds the plans of sm89."""
    folder = tmp_path_factory.mktemp("export") / "small"
    folder.mkdir()
    write_small_repository(folder)
    return folder


@pytest.fixture(scope="module")
def filled(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    cache = tmp_path_factory.mktemp("cache")
    report = make(models, tmp_path_factory.mktemp("first") / "small", cache)
    assert not any(row.from_cache for row in report.rows)
    return cache


@pytest.fixture
def cache(filled: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(filled, tmp_path / "plans"))


def rtx_as_served(monkeypatch: pytest.MonkeyPatch) -> None:
    """Triton serves TensorRT's own plans, built on GPUs alone; TensorRT for RTX stands in."""
    monkeypatch.setattr(
        "mirrorme_export.triton_repository.plan_file",
        lambda module, architecture: f"model.rtx-{architecture}.plan",
    )


def make(models: Path, target: Path, cache: Path, gpu: str = "sm89") -> TensorRTReport:
    plans = TensorRTOptions(gpu=gpu, precision="fp32")
    options = RepositoryOptions(GPU, plans, cache)
    with pytest.MonkeyPatch.context() as patch:
        rtx_as_served(patch)
        report = make_repository(models, target, options, step=quiet)
    assert report is not None
    return report


def test_second_server_finds_what_the_first_built(
    models: Path, cache: Path, tmp_path: Path
) -> None:
    report = make(models, tmp_path / "second", cache)
    assert all(row.from_cache for row in report.rows)
    for spec in Manifest.load(tmp_path / "second").engines:
        config = model_config_pb2.ModelConfig()
        text_format.Parse((tmp_path / "second" / spec.name / "config.pbtxt").read_text(), config)
        version = (tmp_path / "second" / spec.file).parent
        assert (version / config.cc_model_filenames["8.9"]).stat().st_size > 1000
        assert not (tmp_path / "second" / spec.file).exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["plans", "second"]


def test_another_gpu_is_built_for_anew_and_the_first_is_kept(
    models: Path, cache: Path, tmp_path: Path
) -> None:
    assert not any(row.from_cache for row in make(models, tmp_path / "new", cache, "sm120").rows)
    assert all(row.from_cache for row in make(models, tmp_path / "old", cache, "sm89").rows)


def test_another_tensorrt_builds_anew(
    models: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = load_tensorrt("tensorrt_rtx")
    newer = SimpleNamespace(**{**vars(real), "__version__": real.__version__ + ".1"})
    monkeypatch.setattr(tensorrt_export, "load_tensorrt", lambda module: newer)
    assert not any(row.from_cache for row in make(models, tmp_path / "new", cache).rows)
    monkeypatch.setattr(tensorrt_export, "load_tensorrt", lambda module: real)
    assert all(row.from_cache for row in make(models, tmp_path / "old", cache).rows)


def test_a_cached_plan_for_another_card_of_the_same_architecture_is_not_taken(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TensorRT's own plans are timed on one kind of card: its name is in the key."""
    keys = []
    real = load_tensorrt("tensorrt_rtx")
    monkeypatch.setattr(tensorrt_export, "load_tensorrt", lambda module: real)
    monkeypatch.setattr(
        tensorrt_export, "_build", lambda job, onnx, source, *_: keys.append(source.key)
    )
    for card in ("NVIDIA H100 PCIe", "NVIDIA H100 80GB HBM3"):
        device = Gpu(name=card, architecture="sm90")
        monkeypatch.setattr(
            "mirrorme_export.tensorrt_target.current_gpu", lambda device=device: device
        )
        options = RepositoryOptions(
            GPU, TensorRTOptions("tensorrt", precision="fp32"), tmp_path / "c"
        )
        with pytest.raises(AttributeError):
            make_repository(models, tmp_path / "r", options, step=quiet)
        assert not (tmp_path / "r").exists()
    assert len(set(keys)) == 2


PROGRAM = """
import sys
from mirrorme_export import triton_repository
triton_repository.plan_file = lambda module, architecture: f"model.rtx-{architecture}.plan"
if sys.argv[1] == "die":
    import os, signal
    from mirrorme_export import serving_repository
    serving_repository.write_triton_repository = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
from mirrorme_export.cli import main
main(sys.argv[2:])
"""


def program(how: str, models: Path, target: Path, cache: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", PROGRAM, how, "repository", str(models), f"--output={target}"]
    options = ["--target=tensorrt-rtx", "--gpu=sm89", "--precision=fp32", f"--cache={cache}"]
    return subprocess.Popen([*command, *options], stderr=subprocess.DEVNULL)


def from_cache(target: Path) -> list[bool]:
    report = json.loads((target / "tensorrt-rtx-sm89.json").read_text())
    return [row["from_cache"] for row in report["rows"]]


def test_two_servers_that_start_at_once_build_each_plan_once(models: Path, tmp_path: Path) -> None:
    targets = [tmp_path / "a", tmp_path / "b"]
    started = [program("whole", models, target, tmp_path / "plans") for target in targets]
    assert [process.wait(100) for process in started] == [0, 0]
    for first, second in zip(*map(from_cache, targets), strict=True):
        assert first != second


def test_killed_server_leaves_no_repository_and_the_next_one_makes_it(
    models: Path, cache: Path, tmp_path: Path
) -> None:
    target = tmp_path / "repository"
    assert program("die", models, target, cache).wait(100) == -signal.SIGKILL
    assert not target.exists()
    assert program("whole", models, target, cache).wait(100) == 0
    assert Manifest.load(target).engines and all(from_cache(target))


def test_a_damaged_export_makes_no_repository(models: Path, cache: Path, tmp_path: Path) -> None:
    damaged = Path(shutil.copytree(models, tmp_path / "damaged"))
    onnx = damaged / Manifest.load(damaged).engines[0].file
    onnx.write_bytes(onnx.read_bytes()[:-1] + b"x")
    with pytest.raises(ManifestError, match="is not the file that the manifest describes"):
        make(damaged, tmp_path / "repository", cache)
    assert not (tmp_path / "repository").exists()


def test_onnx_files_are_served_without_what_builds_plans(models: Path, tmp_path: Path) -> None:
    """The gateway's image makes the repositories of CPUs; it has neither torch nor ONNX IR."""
    code = """
import sys
for name in ("torch", "onnx_ir", "onnxscript", "transformers", "safetensors", "tensorrt_rtx"):
    sys.modules[name] = None
from mirrorme_export.cli import main
main(sys.argv[1:])
"""
    for attempt in (1, 2):  # A container that was restarted finds its own repository.
        command = [
            sys.executable,
            "-c",
            code,
            "repository",
            str(models),
            f"--output={tmp_path / 'made'}",
        ]
        result = subprocess.run(
            [*command, "--platform=python", "--device=cpu"], capture_output=True
        )
        assert result.returncode == 0, (attempt, result.stderr.decode())
    assert (tmp_path / "made/decoder/1/model.py").exists()
    assert (tmp_path / "made/decoder/1/model.onnx").exists()


def test_what_does_not_fit_is_refused(models: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="no other does"):
        RepositoryOptions(TritonOptions(), TensorRTOptions(), tmp_path)
    arguments = [
        str(models),
        "-o",
        str(tmp_path / "r"),
        "--target",
        "tensorrt-rtx",
        "--gpu",
        "sm89",
    ]
    result = CliRunner().invoke(repository_command, arguments)
    assert result.exit_code == 1 and "plans want --cache" in result.output
