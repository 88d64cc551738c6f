"""The configurations that Triton is given, read back through its own schema."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest
from google.protobuf import text_format
from mirrorme_engines.errors import ManifestError
from mirrorme_engines.fake_manifest import fake_manifest
from mirrorme_engines.manifest import Manifest
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
        path.with_name("model.plan").write_bytes(b"plan")
    return tmp_path


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
        ("tensorrt_plan", "platform", "tensorrt_plan", "model.plan"),
        ("onnxruntime_onnx", "platform", "onnxruntime_onnx", "model.onnx"),
        ("python", "backend", "python", "model.py"),
    ],
)
def test_platforms(platform: Platform, field: str, value: str, file: str) -> None:
    options = TritonOptions(platform=platform, device="gpu")
    config = model_config(MANIFEST, MANIFEST.engine("decoder"), options)
    assert (getattr(config, field), config.default_model_filename) == (value, file)


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


@pytest.mark.parametrize(
    ("max_batch_size", "sizes"), [(1, [1]), (6, [1, 2, 4, 6]), (8, [1, 2, 4, 8])]
)
def test_warm_up_covers_the_batch_sizes(max_batch_size: int, sizes: list[int]) -> None:
    spec = dataclasses.replace(MANIFEST.engine("denoiser"), max_batch_size=max_batch_size)
    config = model_config(MANIFEST, spec, GPU)
    assert [warmup.batch_size for warmup in config.model_warmup] == sizes
    for warmup in config.model_warmup:
        assert set(warmup.inputs) == {tensor.name for tensor in spec.inputs}


def test_missing_plan_is_named(folder: Path) -> None:
    (folder / "decoder/1/model.plan").unlink()
    with pytest.raises(ManifestError, match=r"decoder/1/model.plan is missing"):
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
        {"queue_timeout_ms": 0},
        {"max_queue_calls": 0},
    ],
)
def test_bad_options_are_refused(given: dict) -> None:
    with pytest.raises(ValueError, match=r"want|needs|must"):
        TritonOptions(**given)
