"""The configurations that Triton is given, read back through its own schema."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
from pathlib import Path

import pytest
from google.protobuf import text_format
from mirrorme_engines.errors import ManifestError
from mirrorme_engines.fake_manifest import fake_manifest
from mirrorme_engines.manifest import EngineSpec, Manifest
from mirrorme_engines.tensorrt_plan import (
    PlanFacts,
    PlanRecord,
    PlanSource,
    Profile,
    record_path,
)
from mirrorme_engines.triton_model_check import compare_config
from mirrorme_export.triton_repository import (
    PLATFORMS,
    Platform,
    TritonOptions,
    model_config,
    write_triton_repository,
)
from tritonclient.grpc import model_config_pb2

MANIFEST = fake_manifest(num_steps=(4, 2))
GPU = TritonOptions(platform="tensorrt_plan", device="gpu")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    MANIFEST.save(tmp_path)
    for spec in MANIFEST.engines:
        path = tmp_path / spec.file
        path.parent.mkdir(parents=True)
        path.write_bytes(b"onnx")
        for architecture in ("sm89", "sm120"):
            save_plan(path.with_name(f"model.{architecture}.plan"), spec, architecture)
    return tmp_path


def save_plan(path: Path, spec: EngineSpec, architecture: str, **changes: str) -> None:
    shapes = [((1, *t.dims), (spec.max_batch_size, *t.dims)) for t in spec.inputs]
    source = PlanSource(
        engine=spec.name,
        engine_sha256=spec.sha256,
        weights_sha256=MANIFEST.weights_sha256,
        module="tensorrt",
        module_version="11.4",
        architecture=architecture,
        device="a GPU",
        precision="fp16",
        precision_level="wide",
        profiles=tuple(
            Profile(t.name, low, low, high)
            for t, (low, high) in zip(spec.inputs, shapes, strict=True)
        ),
        flags=(),
    )
    path.write_bytes(b"plan")
    source = dataclasses.replace(source, **changes)  # pyright: ignore
    facts = PlanFacts(10, 5, 1000, 1.0)
    PlanRecord(1, source, hashlib.sha256(b"plan").hexdigest(), 4, facts).save(record_path(path))


def read(folder: Path, engine: str) -> model_config_pb2.ModelConfig:
    text = (folder / engine / "config.pbtxt").read_text()
    return text_format.Parse(text, model_config_pb2.ModelConfig())


@pytest.mark.parametrize("platform", PLATFORMS)
def test_every_engine_is_what_the_client_wants(folder: Path, platform: Platform) -> None:
    device = "gpu" if platform == "tensorrt_plan" else "cpu"
    write_triton_repository(folder, TritonOptions(platform=platform, device=device))
    manifest = Manifest.load(folder)
    for spec in manifest.engines:
        config = read(folder, spec.name)
        assert compare_config(manifest, spec, config) == []
        assert config.name == spec.name
        assert list(config.version_policy.specific.versions) == [1]
        assert (folder / spec.name / "1" / config.default_model_filename).exists()
    python = (folder / "decoder/1/model.py").exists()
    assert python == (platform == "python")


@pytest.mark.parametrize(
    ("platform", "field", "value", "file"),
    [
        ("tensorrt_plan", "platform", "tensorrt_plan", "model.sm90.plan"),
        ("onnxruntime_onnx", "platform", "onnxruntime_onnx", "model.onnx"),
        ("python", "backend", "python", "model.py"),
    ],
)
def test_platforms(platform: Platform, field: str, value: str, file: str) -> None:
    options = TritonOptions(platform=platform, device="gpu")
    plans = {"9.0": "model.sm90.plan"}
    config = model_config(MANIFEST, MANIFEST.engine("decoder"), options, plans)
    assert (getattr(config, field), config.default_model_filename) == (value, file)


@pytest.mark.parametrize(
    ("platform", "parameter"),
    [("onnxruntime_onnx", "intra_op_thread_count"), ("python", "threads")],
)
def test_the_audio_encoder_has_one_thread(platform: Platform, parameter: str) -> None:
    options = TritonOptions(platform=platform, threads=4)
    threads = {
        spec.role: model_config(MANIFEST, spec, options).parameters[parameter].string_value
        for spec in MANIFEST.engines
    }
    assert (threads["audio_encoder"], threads["decoder"]) == ("1", "4")


def test_scalars_travel_with_one_dimension() -> None:
    config = model_config(MANIFEST, MANIFEST.engine("audio_encoder"), TritonOptions())
    pcm, phase = config.input
    assert not pcm.HasField("reshape")
    assert list(phase.dims) == [1]
    assert phase.HasField("reshape") and not phase.reshape.shape


def test_queue_and_instances() -> None:
    options = TritonOptions(
        instances=2, max_queue_calls=7, queue_timeout_ms=333, max_queue_delay_us=500
    )
    config = model_config(MANIFEST, MANIFEST.engine("denoiser"), options)
    batching = config.dynamic_batching
    assert batching.max_queue_delay_microseconds == 500
    policy = batching.default_queue_policy
    assert policy.timeout_action == model_config_pb2.ModelQueuePolicy.REJECT
    assert policy.default_timeout_microseconds == 333_000
    assert policy.max_queue_size == 7 and policy.allow_timeout_override
    (group,) = config.instance_group
    assert (group.count, group.kind) == (2, model_config_pb2.ModelInstanceGroup.KIND_CPU)


def test_no_queue_policy_unless_asked_for() -> None:
    """Any of its bounds keeps Triton from preparing the next batch while one runs."""
    config = model_config(MANIFEST, MANIFEST.engine("denoiser"), TritonOptions())
    assert config.HasField("dynamic_batching")
    assert not config.dynamic_batching.HasField("default_queue_policy")
    bounded = model_config(MANIFEST, MANIFEST.engine("denoiser"), TritonOptions(max_queue_calls=3))
    policy = bounded.dynamic_batching.default_queue_policy
    assert policy.max_queue_size == 3
    assert not policy.default_timeout_microseconds and not policy.allow_timeout_override


@pytest.mark.parametrize(
    ("max_batch_size", "sizes"), [(1, [1]), (6, [1, 2, 4, 6]), (8, [1, 2, 4, 8])]
)
def test_warm_up_covers_the_batch_sizes(max_batch_size: int, sizes: list[int]) -> None:
    spec = dataclasses.replace(MANIFEST.engine("denoiser"), max_batch_size=max_batch_size)
    config = model_config(MANIFEST, spec, GPU)
    assert [warmup.batch_size for warmup in config.model_warmup] == sizes
    for warmup in config.model_warmup:
        assert set(warmup.inputs) == {tensor.name for tensor in spec.inputs}


def test_triton_picks_the_plan_of_its_gpu(folder: Path) -> None:
    write_triton_repository(folder, GPU)
    names = {"12.0": "model.sm120.plan", "8.9": "model.sm89.plan"}
    assert dict(read(folder, "decoder").cc_model_filenames) == names


def test_missing_plan_is_named(folder: Path) -> None:
    for plan in (folder / "decoder/1").glob("*.plan"):
        plan.unlink()
    with pytest.raises(ManifestError, match=r"decoder/1 holds no model\.sm\*\.plan"):
        write_triton_repository(folder, GPU)


def test_stale_plan_is_named(folder: Path) -> None:
    plan = folder / "decoder/1/model.sm89.plan"
    save_plan(plan, MANIFEST.engine("decoder"), "sm89", weights_sha256="f" * 64)
    with pytest.raises(
        ManifestError, match=r"model\.sm89\.plan is stale: it was built of weights f"
    ):
        write_triton_repository(folder, GPU)


def test_file_outside_a_version_folder_is_refused() -> None:
    spec = dataclasses.replace(MANIFEST.engine("decoder"), file="decoder.onnx")
    with pytest.raises(ManifestError, match="Triton wants decoder/<version>/<file>"):
        model_config(MANIFEST, spec, TritonOptions())


def test_another_platform_replaces_the_first(folder: Path) -> None:
    write_triton_repository(folder, TritonOptions(platform="python"))
    write_triton_repository(folder, TritonOptions())
    assert read(folder, "decoder").platform == "onnxruntime_onnx"
    assert not read(folder, "decoder").backend
    shutil.rmtree(folder / "decoder")
    with pytest.raises(ManifestError, match=r"decoder/1/model.onnx is missing"):
        write_triton_repository(folder, TritonOptions())


@pytest.mark.parametrize(
    "given",
    [
        {"platform": "pytorch"},
        {"platform": "tensorrt_plan", "device": "cpu"},
        {"instances": 0},
        {"threads": -1},
        {"queue_timeout_ms": -1},
        {"max_queue_calls": -1},
        {"max_queue_delay_us": -1},
    ],
)
def test_bad_options_are_refused(given: dict) -> None:
    with pytest.raises(ValueError, match=r"want|needs|must"):
        TritonOptions(**given)
