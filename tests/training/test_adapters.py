"""Adapters for a published base, from its files to engines: small, with random weights."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import warnings
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch
from click.testing import CliRunner
from mirrorme_export.engine_graphs import engine_graph
from mirrorme_export.exporter import export_model
from mirrorme_export.weights import PublishedFiles, Shape, published_weights
from mirrorme_model.adapter_checkpoint import is_adapter_key, open_adapters
from mirrorme_model.avatar import AvatarModel
from mirrorme_model.config import HandConfig, ModelConfig
from mirrorme_model.errors import CheckpointError
from mirrorme_model.lora import is_lora_key
from mirrorme_model.tensor_source import SafetensorsSource
from mirrorme_training.cli import main
from mirrorme_training.published_start import PublishedParts, open_published
from mirrorme_training.recipe import StageName, load_recipe
from mirrorme_training.run_log import read_log
from mirrorme_training.run_state import RunError
from mirrorme_training.speech_shards import ShardConfig, write_shards

from tests.model.published_files import diffusers_transformer, diffusers_vae, small_wav2vec2
from tests.model.published_files import small_config as small_ltx
from tests.training.training_runs import train

pytestmark = pytest.mark.timeout(1800)

STAGES: tuple[StageName, ...] = ("face", "body", "hands")
RANK = 2
STAGE = """
[{stage}]
model = {{ preset = "ltx-2b" }}
train = "{train}"
lora_rank = 2
recompute = true
bank = {{ num_clips = 2, renew_every_steps = 0, close_up = {close_up}, window_latents = 6 }}
optim = {{ steps = 2, learning_rate = 3e-3, warmup_steps = 1, log_every_steps = 1 }}
dropout = {{ hands = {hands} }}
batch = 2
chunks_per_clip = 1
face_weight = 2.0
strip_steps = 0
"""


def small_config() -> ModelConfig:
    """`ltx-2b`, narrow and of few layers, with hands."""
    config = small_ltx()
    assert config.vae.encoder
    encoder = dataclasses.replace(config.vae.encoder, num_blocks=(1, 1, 1, 1, 1))
    decoder = dataclasses.replace(config.vae.decoder, num_blocks=(1, 1, 1, 1))
    return dataclasses.replace(
        config,
        video=dataclasses.replace(config.video, height_px=64, width_px=64),
        dit=dataclasses.replace(config.dit, num_layers=2, audio_layers=(1,)),
        hands=HandConfig(sigma_tokens=1.0, hidden_width=16),
        sigmas=(1.0, 0.6, 0.0),
        vae=dataclasses.replace(config.vae, encoder=encoder, decoder=decoder),
    )


@pytest.fixture(autouse=True)
def small_preset(monkeypatch: pytest.MonkeyPatch) -> None:
    """`ltx-2b` is small."""
    for module in ("mirrorme_training.run", "mirrorme_export.weights"):
        monkeypatch.setattr(f"{module}.preset", lambda *_args, **_sizes: small_config())


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> PublishedParts:
    """Published weights, as their libraries write them."""
    from transformers import Wav2Vec2ForCTC

    folder, config = tmp_path_factory.mktemp("published"), small_config()
    torch.manual_seed(0)
    diffusers_transformer(config).save_pretrained(folder / "base" / "transformer")
    diffusers_vae(config.vae).save_pretrained(folder / "base" / "vae")
    Wav2Vec2ForCTC(small_wav2vec2("base")).save_pretrained(folder / "wav2vec2")
    return PublishedParts(folder / "base", folder / "wav2vec2")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    list(write_shards(folder, ShardConfig(num_clips=2, num_frames=56, clips_per_shard=2, idle=1.0)))
    return folder


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recipe(tmp_path_factory.mktemp("recipe"), "lora")


def write_recipe(folder: Path, train: str) -> Path:
    tables = [
        STAGE.format(stage=stage, train=train, close_up=close_up, hands=hands)
        for stage, close_up, hands in (("face", 1.0, 1.0), ("body", 0.0, 1.0), ("hands", 0.0, 0.2))
    ]
    path = folder / f"{train}.toml"
    path.write_text("".join(tables))
    return path


def opened(files: PublishedParts, adapter: Path) -> AvatarModel:
    """As the next stage would begin: LoRA beside the base."""
    model, _ = open_published(files, small_config(), adapter, lambda config: config, None, 0)
    return model.eval()


def test_what_is_missing_or_does_not_fit_is_named(
    files: PublishedParts, data: Path, recipe: Path, tmp_path: Path
) -> None:
    def start(published: PublishedParts, name: str = str(recipe)) -> None:
        train("face", data, tmp_path / "run", recipe=name, published=published)

    with pytest.raises(RunError, match=r"ltx-2b lacks weights:\n  --base: .*\n  --wav2vec2: "):
        start(PublishedParts())
    with pytest.raises(RunError, match="lacks weights:\n  --wav2vec2"):
        start(PublishedParts(base=files.base))
    with pytest.raises(CheckpointError, match=r"transformer.config\.json is missing"):
        start(dataclasses.replace(files, base=files.wav2vec2))
    with pytest.raises(RunError, match="a published base is not trained"):
        start(files, str(write_recipe(tmp_path, "all")))


def test_shipped_recipe_trains_adapters_stage_by_stage() -> None:
    for stage in STAGES:
        config = load_recipe("ltx-2b", stage)
        assert config.model.preset == "ltx-2b" and config.train == "lora" and config.recompute


def test_adapters_are_trained_beside_a_base_that_stays(
    files: PublishedParts, data: Path, recipe: Path, tmp_path: Path
) -> None:
    train("body", data, tmp_path, recipe=str(recipe), published=files, steps=2)
    path = tmp_path / "checkpoint.safetensors"
    names = set(SafetensorsSource([path]).shapes)
    assert all(is_adapter_key(name) for name in names)
    assert open_adapters(path).lora_rank == RANK
    model = opened(files, path)
    plain, _ = open_published(files, small_config(), None, lambda config: config, None, 0)
    state = model.state_dict()
    for name, weight in plain.state_dict().items():
        if not is_adapter_key(name):
            assert torch.equal(state[name], weight), name
    changed = [name for name in state if is_lora_key(name) and name.endswith("lora_up")]
    assert changed and all(state[name].any() for name in changed if "blocks.0" in name)
    assert model.denoiser.audio_adapters["1"].attention.to_out[0].weight.any()


@pytest.mark.slow
def test_adapters_alone_leave_no_lora_and_half_precision_holds(
    files: PublishedParts, data: Path, tmp_path: Path
) -> None:
    recipe = str(write_recipe(tmp_path, "adapters"))
    with warnings.catch_warnings():
        # On a CPU there is no fused norm of bfloat16 with float32 weights.
        warnings.filterwarnings("ignore", "Mismatch dtype", UserWarning)
        losses = train(
            "hands", data, tmp_path / "run", recipe=recipe, published=files, precision="bf16"
        )
    assert np.isfinite(losses).all()
    adapters = open_adapters(tmp_path / "run" / "checkpoint.safetensors")
    assert adapters.lora_rank is None


@pytest.mark.slow
def test_recomputed_gradients_are_the_same(
    files: PublishedParts, data: Path, recipe: Path, tmp_path: Path
) -> None:
    plain = tmp_path / "plain.toml"
    plain.write_text(recipe.read_text().replace("recompute = true", "recompute = false"))
    losses = [
        train("body", data, tmp_path / name, recipe=str(path), published=files, steps=3)
        for name, path in (("again", recipe), ("kept", plain))
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@pytest.mark.slow
def test_stages_follow_each_other_to_engines_that_do_the_same(
    files: PublishedParts, data: Path, recipe: Path, tmp_path: Path
) -> None:
    """By the commands alone; and a run that was stopped loses nothing."""

    def run(stage: StageName, output: Path, *options: str) -> list[dict[str, float]]:
        arguments = ["run", stage, "--config", recipe, "--data", data, "--output", output]
        given = ["--base", files.base, "--wav2vec2", files.wav2vec2, "--device", "cpu"]
        result = CliRunner().invoke(main, [str(a) for a in (*arguments, *given, *options)])
        assert result.exit_code == 0, result.output
        return read_log(output)

    init: list[str] = []
    for stage in STAGES:
        run(stage, tmp_path / stage, *init)
        before, init = init, ["--init", str(tmp_path / stage / "checkpoint.safetensors")]
    broken = tmp_path / "broken"
    run("hands", broken, *before, "--call-steps", "1")
    log = run("hands", broken, *before, "--resume")
    whole = read_log(tmp_path / "hands")
    assert [line["loss"] for line in log] == [line["loss"] for line in whole]
    origin = open_adapters(Path(init[1])).provenance
    stages = [origin["stage"]]
    while "parent" in origin:
        origin = origin["parent"]
        stages.append(origin["stage"])
    assert stages == ["hands", "body", "face"]
    models = [opened(files, tmp_path / stage / "checkpoint.safetensors") for stage in STAGES]
    for earlier, later in itertools.pairwise(models):
        assert earlier.weights_sha256() != later.weights_sha256()
    face, _, model = models
    assert face.denoiser.hand_encoder and not face.denoiser.hand_encoder.output.weight.any()
    assert model.denoiser.hand_encoder and model.denoiser.hand_encoder.output.weight.any()
    exported = published_weights(
        "ltx-2b", Shape(), PublishedFiles(files.base, files.wav2vec2, Path(init[1]))
    )
    export_model(
        exported,
        tmp_path / "engines",
        trained=True,
        step=lambda _name: contextlib.nullcontext(),
        measure=None,
    )
    graph = engine_graph(model, "denoiser")
    inputs = graph.example_inputs(1, 0)
    (want,) = graph.run(inputs)
    session = ort.InferenceSession(tmp_path / "engines/denoiser/1/model.onnx")
    feed = {name: t.numpy() for name, t in zip(graph.input_names, inputs, strict=True)}
    np.testing.assert_allclose(session.run(None, feed)[0], want.numpy(), atol=1e-4)
