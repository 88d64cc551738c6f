"""Plans for GPUs that are not there: built, cached, checked, and refused when they do not fit."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from mirrorme_engines.errors import ManifestError
from mirrorme_engines.gpu import Gpu
from mirrorme_engines.manifest import Manifest, engine_sha256
from mirrorme_engines.tensorrt_plan import PlanRecord, check_plan, record_path
from mirrorme_export.errors import InvalidRequest
from mirrorme_export.tensorrt_command import tensorrt_command
from mirrorme_export.tensorrt_errors import TensorRTUnavailable, UnbuildableGraph
from mirrorme_export.tensorrt_export import build_plans, check_plans
from mirrorme_export.tensorrt_report import TensorRTReport
from mirrorme_export.tensorrt_target import TensorRTOptions, find_device, load_tensorrt, profiles
from onnx import TensorProto, helper

from tests.triton.small_repository import write_small_repository

SM89 = TensorRTOptions(gpu="sm89", precision="fp32")


@contextlib.contextmanager
def quiet(name: str) -> Iterator[None]:
    yield


def build(folder: Path, options: TensorRTOptions = SM89, cache: Path | None = None):
    return build_plans(folder, options, step=quiet, cache=cache)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TensorRTReport]:
    folder = tmp_path_factory.mktemp("repository") / "small"
    folder.mkdir()
    write_small_repository(folder)
    return folder, build(folder)


@pytest.fixture
def folder(built: tuple[Path, TensorRTReport], tmp_path: Path) -> Path:
    """A copy of the built preset and its cache, to be spoilt."""
    shutil.copytree(built[0].parent, tmp_path / "repository")
    return tmp_path / "repository/small"


def plan_of(folder: Path, engine: str = "decoder", architecture: str = "sm89") -> Path:
    return folder / engine / "1" / f"model.rtx-{architecture}.plan"


def refused(folder: Path, options: TensorRTOptions = SM89) -> str:
    with pytest.raises(ManifestError) as caught:
        check_plans(folder, options)
    return str(caught.value)


def test_every_engine_is_built_and_passes_the_check(built) -> None:
    folder, report = built
    manifest = Manifest.load(folder)
    assert [row.engine for row in report.rows] == [spec.name for spec in manifest.engines]
    assert all(row.plan_bytes > 1000 and not row.from_cache for row in report.rows)
    assert len(check_plans(folder, SM89)) == len(manifest.engines)
    written = json.loads((folder / "tensorrt-rtx-sm89.json").read_text())
    assert written["rows"][0]["facts"]["num_network_layers"] > 0
    assert report.table().row_count == len(manifest.engines)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
@pytest.mark.parametrize("architecture", ["sm89", "sm120"])
def test_low_precision_builds_for_two_architectures(
    folder: Path, architecture: str, precision
) -> None:
    report = build(folder, TensorRTOptions(gpu=architecture, precision=precision))
    # `tiny` gives NaN for random inputs, so that there is nothing to measure: it stays fp32.
    tiny = report.rows[-1]
    assert (tiny.engine, tiny.precision_level, tiny.precision_error) == ("tiny", "none", None)
    for row in report.rows[:-1]:
        assert row.precision_level == "wide"
        assert row.precision_error is not None and row.precision_error > 0
    records = check_plans(folder, TensorRTOptions(gpu=architecture, precision=precision))
    assert {record.source.architecture for record in records} == {architecture}


def test_plans_come_from_the_cache_after_a_new_export(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()
    write_small_repository(folder)
    report = build(folder)
    assert all(row.from_cache for row in report.rows)
    check_plans(folder, SM89)


@pytest.mark.parametrize(
    "options",
    [
        dataclasses.replace(SM89, precision="tf32"),
        dataclasses.replace(SM89, typical_batch_size=2),
        dataclasses.replace(SM89, workspace_mib=256),
    ],
)
def test_what_the_plan_depends_on_is_in_its_key(folder: Path, options: TensorRTOptions) -> None:
    assert not any(row.from_cache for row in build(folder, options).rows)


def test_other_weights_are_not_taken_from_the_cache(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()
    write_small_repository(folder, seed=99)
    # `tiny` is the same file, but of other weights in the manifest.
    assert not any(row.from_cache for row in build(folder).rows)


def test_damaged_cache_entry_is_built_again(folder: Path) -> None:
    for plan in (folder.parent / ".plans").glob("*.plan"):
        with plan.open("r+b") as file:
            file.seek(100)
            file.write(b"\xff\xff\xff\xff")
    assert not any(row.from_cache for row in build(folder).rows)
    check_plans(folder, SM89)


def test_damaged_plan_is_named(folder: Path) -> None:
    plan = plan_of(folder)
    content = bytearray(plan.read_bytes())
    content[len(content) // 2] ^= 1
    plan.write_bytes(content)
    assert f"{plan} is damaged: its sha256 is" in refused(folder)
    plan.write_bytes(content[:-5])
    assert f"{plan} is damaged: it has {len(content) - 5} bytes, {len(content)}" in refused(folder)


def test_missing_record_and_plan_are_named(folder: Path) -> None:
    plan_of(folder).unlink()
    assert "model.rtx-sm89.plan cannot be read: No such file" in refused(folder)
    record_path(plan_of(folder)).unlink()
    assert "model.rtx-sm89.plan.json is missing: build the plan again" in refused(folder)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"format_version": 2}', '{"format_version": 1}'])
def test_damaged_record_is_named(folder: Path, text: str) -> None:
    record_path(plan_of(folder)).write_text(text)
    said = refused(folder)
    assert "model.rtx-sm89.plan.json" in said and "build the plan again" in said


def test_stale_plan_is_named(folder: Path) -> None:
    old = Manifest.load(folder)
    shutil.copy(plan_of(folder), folder.parent / "kept")
    write_small_repository_over(folder, seed=99)
    said = refused(folder)
    assert "model.rtx-sm89.plan is stale: it was built of weights " + old.weights_sha256 in said
    assert Manifest.load(folder).weights_sha256 in said


def write_small_repository_over(folder: Path, seed: int) -> None:
    """A new export that leaves the old plans where they are."""
    plans = {p.relative_to(folder): p.read_bytes() for p in folder.rglob("model.rtx-*")}
    shutil.rmtree(folder)
    folder.mkdir()
    write_small_repository(folder, seed=seed)
    for path, content in plans.items():
        (folder / path).write_bytes(content)


def test_larger_batches_make_a_plan_stale(folder: Path) -> None:
    manifest = Manifest.load(folder)
    larger = tuple(dataclasses.replace(spec, max_batch_size=16) for spec in manifest.engines)
    dataclasses.replace(manifest, engines=larger).save(folder)
    assert "is stale: its largest inputs are" in refused(folder)


def test_plan_for_another_gpu_or_version_is_named(folder: Path) -> None:
    manifest = Manifest.load(folder)
    spec = manifest.engine("decoder")
    with pytest.raises(ManifestError, match="built for sm89, this machine has sm120"):
        check_plan(plan_of(folder), manifest, spec, architecture="sm120")
    with pytest.raises(ManifestError, match=r"built by tensorrt_rtx .*, this machine has 9\.9"):
        check_plan(plan_of(folder), manifest, spec, module_version="9.9")
    renamed = plan_of(folder, architecture="sm120")
    for role in ("identity_encoder", "audio_encoder", "denoiser", "decoder", "tiny"):
        target = plan_of(folder, role, "sm120")
        shutil.copy(plan_of(folder, role), target)
        shutil.copy(record_path(plan_of(folder, role)), record_path(target))
    assert renamed.exists()
    said = refused(folder, dataclasses.replace(SM89, gpu="sm120"))
    assert "is for another GPU: it was built for sm89" in said


def test_stale_onnx_is_named_before_anything_is_built(folder: Path) -> None:
    path = folder / "decoder/1/model.onnx"
    path.write_bytes(path.read_bytes() + b"\x00")
    with pytest.raises(ManifestError, match="is not the file that the manifest describes"):
        build(folder)


def test_graph_that_tensorrt_cannot_parse_is_told_in_its_words(folder: Path) -> None:
    """A Mul on uint8: only casts may touch it."""
    spec = Manifest.load(folder).engine("identity_encoder")
    image, identity = spec.inputs[0], spec.outputs[0]
    graph = helper.make_graph(
        [
            helper.make_node("Mul", ["image", "image"], ["squared"], name="bad_mul"),
            helper.make_node("Cast", ["squared"], ["floats"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["floats", "axes"], ["identity"], keepdims=1),
        ],
        "bad",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", *image.dims])],
        [helper.make_tensor_value_info("identity", TensorProto.FLOAT, None)],
        [onnx.numpy_helper.from_array(np.array([1, 2, 3]), "axes")],
    )
    path = folder / spec.file
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]), path)
    manifest = Manifest.load(folder)
    replaced = dataclasses.replace(spec, sha256=engine_sha256(path))
    engines = (replaced, *manifest.engines[1:])
    dataclasses.replace(manifest, engines=engines).save(folder)
    assert identity.dtype == "float32"
    with pytest.raises(UnbuildableGraph, match="bad_mul"):
        build(folder)


KILLED = """
import contextlib, os, signal, sys
from pathlib import Path
from mirrorme_engines.tensorrt_plan import PlanRecord
from mirrorme_export import plan_cache
from mirrorme_export.tensorrt_export import build_plans
from mirrorme_export.tensorrt_target import TensorRTOptions

def die(*args):
    os.kill(os.getpid(), signal.SIGKILL)

if sys.argv[2] == "record":
    PlanRecord.save = die
else:
    os.fsync = die
options = TensorRTOptions(gpu="sm89", precision="fp32", typical_batch_size=3)
build_plans(Path(sys.argv[1]), options, step=lambda name: contextlib.nullcontext())
"""


@pytest.mark.parametrize("moment", ["plan", "record"])
def test_killed_builder_leaves_nothing_that_is_served(folder: Path, moment: str) -> None:
    for path in [*folder.rglob("model.rtx-*"), *(folder.parent / ".plans").iterdir()]:
        path.unlink()
    killed = subprocess.run([sys.executable, "-c", KILLED, str(folder), moment])
    assert killed.returncode == -signal.SIGKILL
    assert any((folder.parent / ".plans").glob("*.plan*"))
    assert "is missing: build the plan again" in refused(folder)
    options = dataclasses.replace(SM89, typical_batch_size=3)
    assert not any(row.from_cache for row in build(folder, options).rows)
    check_plans(folder, options)


BUILDER = """
import contextlib, json, sys
from pathlib import Path
from mirrorme_export.tensorrt_export import build_plans
from mirrorme_export.tensorrt_target import TensorRTOptions
options = TensorRTOptions(gpu="sm89", precision="fp16", typical_batch_size=1)
folder, cache = map(Path, sys.argv[1:])
step = lambda name: contextlib.nullcontext()
report = build_plans(folder, options, step=step, cache=cache)
print(json.dumps([row.from_cache for row in report.rows]))
"""


def test_two_builders_build_once(built, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    processes = []
    for name in ("a", "b"):
        shutil.copytree(built[0], tmp_path / name)
        command = [sys.executable, "-c", BUILDER, str(tmp_path / name), str(cache)]
        processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
    printed = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    cached = [json.loads(text) for text in printed]
    # Each engine was built by one of the two.
    assert all(sorted(pair) == [False, True] for pair in zip(*cached, strict=True))


def test_profiles_are_the_manifests(built) -> None:
    spec = Manifest.load(built[0]).engine("decoder")
    (profile,) = profiles(spec, typical_batch_size=64)
    dims = spec.inputs[0].dims
    assert (profile.min, profile.opt, profile.max) == ((1, *dims), (4, *dims), (4, *dims))


def test_device_of_each_target() -> None:
    trt = load_tensorrt("tensorrt_rtx")
    h100 = Gpu("NVIDIA H100", "sm90")
    ada = Gpu("NVIDIA L40S", "sm89")
    native = TensorRTOptions(target="tensorrt")
    assert find_device(trt, native, h100).name == "NVIDIA H100"
    with pytest.raises(TensorRTUnavailable, match=r"H100 \(sm90\), not for sm89"):
        find_device(trt, dataclasses.replace(native, gpu="sm89"), h100)
    assert find_device(trt, TensorRTOptions(), ada).architecture == "sm89"
    with pytest.raises(TensorRTUnavailable, match="cannot build for sm90: want one of sm75"):
        find_device(trt, TensorRTOptions(), h100)


@pytest.mark.skipif(Path("/dev/nvidia0").exists(), reason="asks what is said without a GPU")
def test_no_gpu_and_none_named() -> None:
    trt = load_tensorrt("tensorrt_rtx")
    with pytest.raises(TensorRTUnavailable, match="no GPU here: say --gpu, one of sm75"):
        find_device(trt, TensorRTOptions())
    with pytest.raises(TensorRTUnavailable, match="there is none here"):
        find_device(trt, TensorRTOptions(target="tensorrt"))


def test_missing_tensorrt_says_where_it_is(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(TensorRTUnavailable, match="NVIDIA's Triton or TensorRT container"):
        load_tensorrt("tensorrt")


@pytest.mark.parametrize(
    "given",
    [{"target": "trt"}, {"precision": "int8"}, {"gpu": "89"}, {"typical_batch_size": 0}],
)
def test_bad_options_are_refused(given: dict) -> None:
    with pytest.raises(InvalidRequest, match="want"):
        TensorRTOptions(**given)


def test_command(folder: Path) -> None:
    arguments = [str(folder), "--gpu", "sm89", "--precision", "fp32"]
    built = CliRunner().invoke(tensorrt_command, arguments)
    assert built.exit_code == 0, built.output
    assert "identity_encoder" in built.stderr and "cached" in built.stderr
    checked = CliRunner().invoke(tensorrt_command, [*arguments, "--check"])
    assert checked.exit_code == 0 and "sm89, fp32, tensorrt_rtx" in checked.stderr
    plan_of(folder).write_bytes(b"")
    failed = CliRunner().invoke(tensorrt_command, [*arguments, "--check"])
    assert failed.exit_code == 1 and "is damaged: it has 0 bytes" in failed.stderr


def test_record_survives_a_round_trip(built) -> None:
    record = PlanRecord.load(record_path(plan_of(built[0])))
    assert record.source.profiles[0].max[0] == 4
    assert record.facts.num_engine_layers is None


GATEWAY = """
import sys
from mirrorme_engines import tensorrt_engine
from mirrorme_engines.gpu import Gpu
from mirrorme_service.main import main

tensorrt_engine.current_gpu = lambda: Gpu("NVIDIA L40S", "sm89")
main(["--platform", "tensorrt", "--engines", sys.argv[1], "--port", "0", "--metrics-port", "0"])
"""


def gateway(folder: Path) -> str:
    """What a gateway says that does not start on a machine with an L40S."""
    command = [sys.executable, "-c", GATEWAY, str(folder)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1 and "Traceback" not in ended.stderr
    return ended.stderr


def test_the_gateway_does_not_start_with_a_plan_that_does_not_fit(folder: Path) -> None:
    if not Path("/dev/nvidia0").exists():
        # Sound plans, which only the missing GPU keeps from being served.
        assert "cannot start: no NVIDIA GPU can be used" in gateway(folder)
    content = plan_of(folder).read_bytes()
    plan_of(folder).write_bytes(content[:-1])
    assert f"cannot start: {plan_of(folder)} is damaged" in gateway(folder)
    plan_of(folder).write_bytes(content)
    write_small_repository_over(folder, seed=99)
    assert "model.rtx-sm89.plan is stale: it was built of weights" in gateway(folder)
    for plan in folder.rglob("*.plan"):
        plan.unlink()
    assert "has no TensorRT plans for this GPU, NVIDIA L40S (sm89)" in gateway(folder)
