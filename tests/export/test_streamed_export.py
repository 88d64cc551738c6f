"""Models too large for memory: exported engine by engine, from published weights or random ones."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch
from click.testing import CliRunner
from mirrorme_engines.manifest import Manifest
from mirrorme_export import weights as export_weights
from mirrorme_export.engine_graphs import EngineGraph, engine_graph, engine_names
from mirrorme_export.errors import InvalidRequest
from mirrorme_export.exporter import Export, export_model
from mirrorme_export.onnx_command import onnx_command
from mirrorme_export.onnx_file import write_onnx
from mirrorme_export.parity import BATCH_SIZES, measure_parity
from mirrorme_export.streamed_graphs import streamed_graphs
from mirrorme_model.adapter_checkpoint import save_adapters
from mirrorme_model.checkpoint import save_checkpoint
from mirrorme_model.config import ModelConfig
from mirrorme_model.model_weights import ModelWeights, random_weights
from safetensors.torch import save_file

from tests.model.published_files import (
    diffusers_transformer,
    diffusers_vae,
    small_config,
    small_wav2vec2,
    with_narrow_backbone,
)

pytestmark = pytest.mark.timeout(600)


def light_config() -> ModelConfig:
    """Fewer layers than `small_config`: export takes time for each."""
    config = small_config()
    assert config.vae.encoder
    encoder = dataclasses.replace(config.vae.encoder, num_blocks=(1, 1, 1, 1, 1))
    decoder = dataclasses.replace(config.vae.decoder, num_blocks=(1, 1, 1, 1))
    return dataclasses.replace(
        config,
        dit=dataclasses.replace(config.dit, num_layers=2, audio_layers=(1,)),
        sigmas=(1.0, 0.6, 0.0),
        vae=dataclasses.replace(config.vae, encoder=encoder, decoder=decoder),
    )


def quiet(_name: str) -> contextlib.AbstractContextManager[None]:
    return contextlib.nullcontext()


@pytest.fixture(scope="module")
def wav2vec2_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import Wav2Vec2ForCTC

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("wav2vec2")
    Wav2Vec2ForCTC(small_wav2vec2("large")).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def base_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(1)
    folder, config = tmp_path_factory.mktemp("base"), light_config()
    diffusers_transformer(config).save_pretrained(folder / "transformer", max_shard_size="300KB")
    diffusers_vae(config.vae).save_pretrained(folder / "vae")
    return folder


@pytest.fixture
def light_preset(monkeypatch: pytest.MonkeyPatch) -> None:
    """`ltx-2b` is light, and counts as large."""
    monkeypatch.setattr(export_weights, "preset", lambda _: light_config())
    monkeypatch.setattr(export_weights, "_MAX_WHOLE_BYTES", 0)


@pytest.fixture(scope="module")
def light_weights() -> ModelWeights:
    return random_weights(with_narrow_backbone(light_config()), seed=4)


@pytest.fixture(scope="module")
def small_denoiser(light_weights: ModelWeights) -> EngineGraph:
    """Of one step, as a whole export would write it."""
    graphs = streamed_graphs(light_weights, (1,))
    return next(graph for graph in graphs if graph.name == "denoiser_1step")


@pytest.fixture(scope="module")
def streamed(light_weights: ModelWeights, tmp_path_factory: pytest.TempPathFactory) -> Export:
    target = tmp_path_factory.mktemp("repository") / "ltx-2b"
    return export_model(light_weights, target, trained=False, step=quiet, other_steps=(1,))


@pytest.mark.slow
def test_engines_are_those_of_the_model(streamed: Export, light_weights: ModelWeights) -> None:
    manifest = Manifest.load(streamed.folder)
    assert [spec.name for spec in manifest.engines] == engine_names(light_weights.config, (1,))
    assert manifest.weights_sha256 == light_weights.load().weights_sha256()
    assert streamed.parity.passed
    assert {row.batch_size for row in streamed.parity.rows} == {1}
    assert len(streamed.parity.rows) == 5


def check_batches(light_weights: ModelWeights, name: str, path: Path) -> None:
    rows = measure_parity(engine_graph(light_weights.load(), name), path, BATCH_SIZES[:3])
    assert all(row.passed and row.max_abs_value > 0.1 for row in rows), rows


def test_any_batch_gives_what_the_whole_model_does(
    small_denoiser: EngineGraph, light_weights: ModelWeights, tmp_path: Path
) -> None:
    """The denoiser was traced without weights, its matrices transposed as they were written."""
    path = tmp_path / "model.onnx"
    write_onnx(small_denoiser, path)
    check_batches(light_weights, small_denoiser.name, path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["denoiser", "denoiser_1step"])
def test_any_batch_of_an_export_gives_what_the_whole_model_does(
    streamed: Export, light_weights: ModelWeights, name: str
) -> None:
    check_batches(light_weights, name, streamed.folder / name / "1/model.onnx")


@pytest.mark.slow
def test_large_products_find_their_weights_as_they_want_them(
    light_weights: ModelWeights, tmp_path: Path
) -> None:
    import onnx

    graph = next(g for g in streamed_graphs(light_weights) if g.name == "denoiser")
    path = tmp_path / "denoiser/1/model.onnx"
    write_onnx(graph, path, max_embedded_bytes=1 << 16)
    model = onnx.load(path, load_external_data=False)
    initializers = {tensor.name for tensor in model.graph.initializer}
    transposed = [n for n in model.graph.node if n.op_type == "Transpose"]
    assert not initializers & {name for node in transposed for name in node.input}
    assert "denoiser.base.proj_out.weight.transposed" in initializers
    assert "denoiser.base.proj_out.weight" not in initializers
    session = ort.InferenceSession(path)
    inputs = graph.example_inputs(1, 7)
    feed = {n: t.numpy() for n, t in zip(graph.input_names, inputs, strict=True)}
    (want,) = graph.run(inputs)
    np.testing.assert_allclose(session.run(None, feed)[0], want.numpy(), atol=1e-3)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_tensorrt_builds_every_engine(streamed: Export, tmp_path: Path) -> None:
    """All kinds of layers of the full size, few of each; for SM89, without a GPU."""
    pytest.importorskip("tensorrt_rtx")
    from mirrorme_export.tensorrt_export import build_plans
    from mirrorme_export.tensorrt_target import TensorRTOptions

    folder = tmp_path / "ltx-2b"
    shutil.copytree(streamed.folder, folder)
    options = TensorRTOptions(target="tensorrt-rtx", gpu="sm89", precision="bf16")
    report = build_plans(folder, options, step=quiet)
    assert [row.engine for row in report.rows] == engine_names(light_config(), (1,))
    assert all(row.plan_bytes > 10_000 for row in report.rows)


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(onnx_command, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


@pytest.mark.slow
@pytest.mark.usefixtures("light_preset")
def test_published_weights_are_exported(
    base_folder: Path, wav2vec2_folder: Path, tmp_path: Path
) -> None:
    adapter, caption = tmp_path / "adapter.safetensors", tmp_path / "caption.safetensors"
    files = export_weights.PublishedFiles(
        base=base_folder, wav2vec2=wav2vec2_folder, no_adapter=True
    )
    start = export_weights.published_weights("ltx-2b", export_weights.Shape(), files)
    save_adapters(adapter, start.load(), trained=True, provenance={})
    save_file({"caption": torch.randn(3, 24)}, caption)
    exit_code, output = run(
        "ltx-2b",
        *("--base", base_folder, "--wav2vec2", wav2vec2_folder, "--adapter", adapter),
        *("--text-embedding", caption, "--output", tmp_path, "--no-compare"),
    )
    assert exit_code == 0, output
    assert "development only" not in output and "zeros" not in output
    manifest = Manifest.load(tmp_path / "ltx-2b")
    assert manifest.trained
    report = json.loads((tmp_path / "ltx-2b/parity.json").read_text())
    assert report["rows"] == [] and report["not_compared"] == engine_names(light_config())
    opened = dataclasses.replace(files, adapter=adapter, no_adapter=False, text_embedding=caption)
    model = export_weights.published_weights("ltx-2b", export_weights.Shape(), opened).load()
    assert manifest.weights_sha256 == model.weights_sha256()
    path = tmp_path / "ltx-2b/denoiser/1/model.onnx"
    assert all(row.passed for row in measure_parity(engine_graph(model, "denoiser"), path, (2,)))


def test_a_whole_checkpoint_is_read_as_it_is_needed(
    light_weights: ModelWeights, tmp_path: Path
) -> None:
    path = tmp_path / "whole.safetensors"
    save_checkpoint(path, light_weights.load(), trained=True, provenance={})
    shape = export_weights.Shape(width_px=64, chunk_latents=1)
    opened = export_weights.large_checkpoint_model("ltx-2b", shape, path)
    assert opened.trained
    assert opened.config == shape.apply(light_weights.config)
    for name in opened.source.shapes:
        assert torch.equal(opened.source.read(name), light_weights.source.read(name)), name
    with pytest.raises(InvalidRequest, match="is of preset 'ltx-2b', not 'demo'"):
        export_weights.large_checkpoint_model("demo", shape, path)


@pytest.mark.usefixtures("light_preset")
def test_what_is_missing_is_named_with_its_place(tmp_path: Path, wav2vec2_folder: Path) -> None:
    exit_code, output = run("ltx-2b", "--output", tmp_path)
    assert exit_code == 1
    for told in ("--base (BASE=)", "--wav2vec2 (WAV2VEC2=)", "--adapter (ADAPTER=)"):
        assert told in output
    for place in ("Lightricks/LTX-Video", "facebook/wav2vec2-base", "mirrorme-train"):
        assert place in output
    exit_code, output = run("ltx-2b", "--wav2vec2", wav2vec2_folder, "--no-adapter")
    assert exit_code == 1
    assert "--base" in output and "--wav2vec2 (" not in output and "--adapter (" not in output
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "exit_code", "said"),
    [
        (["ltx-2b", "--base", "x", "--random"], 2, "exclude each other"),
        (["ltx-2b", "--base", "x", "--checkpoint", "y"], 2, "exclude each other"),
        (["ltx-2b", "--adapter", "x", "--no-adapter"], 2, "exclude each other"),
        (["tiny", "--base", "x"], 1, "preset 'tiny' takes no published weights"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    arguments: list[str], exit_code: int, said: str
) -> None:
    got, output = run(*arguments)
    assert (got, said in output) == (exit_code, True), output
