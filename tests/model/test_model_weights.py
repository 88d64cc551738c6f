"""Models put together from a base, a backbone and adapters, without more memory than they take."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from mirrorme_model.adapter_checkpoint import is_adapter_key, open_adapters, save_adapters
from mirrorme_model.avatar import AvatarModel
from mirrorme_model.checkpoint import load_checkpoint, save_checkpoint
from mirrorme_model.config import ModelConfig
from mirrorme_model.errors import CheckpointError
from mirrorme_model.model_weights import (
    PROMPT,
    ModelWeights,
    joined_weights,
    model_shapes,
    published_config,
    random_weights,
)
from mirrorme_model.presets import preset
from mirrorme_model.published_wav2vec2 import PublishedWav2Vec2
from mirrorme_model.tensor_source import JoinedSource, MemorySource, SafetensorsSource
from mirrorme_model.text_embedding import read_text_embedding
from safetensors.torch import save_file
from torch import nn

from tests.model.published_files import small_config, with_narrow_backbone
from tests.model.small_models import every_feature

# Published transformers have no anchor.
TEXT = dataclasses.replace(
    every_feature(), dit=dataclasses.replace(every_feature().dit, anchor=False)
)


@pytest.fixture(scope="module")
def model() -> AvatarModel:
    return AvatarModel.random(TEXT, seed=3)


@pytest.fixture
def adapters(model: AvatarModel, tmp_path: Path) -> Path:
    path = tmp_path / "adapters.safetensors"
    save_adapters(path, model, trained=True, provenance={"steps": 9})
    return path


def base_of(model: AvatarModel) -> MemorySource:
    state = model.state_dict()
    return MemorySource(
        {n: t for n, t in state.items() if n.startswith(("denoiser.base.", "vae."))}
    )


def wav2vec2_of(model: AvatarModel) -> PublishedWav2Vec2:
    state = model.state_dict()
    source = MemorySource({n: t for n, t in state.items() if n.startswith("audio.backbone.")})
    return PublishedWav2Vec2(model.config.audio.backbone, normalize=True, source=source)


def test_parts_make_the_model_that_they_were_taken_from(model: AvatarModel, adapters: Path) -> None:
    opened = open_adapters(adapters)
    assert opened.trained and opened.provenance == {"steps": 9}
    wav2vec2 = wav2vec2_of(model)
    config = published_config(TEXT, wav2vec2, opened)
    weights = joined_weights(config, base_of(model), wav2vec2, opened)
    assert weights.trained and weights.config == TEXT
    assert weights.sha256() == model.weights_sha256()
    loaded = weights.load()
    assert loaded.weights_sha256() == model.weights_sha256()
    assert not loaded.training


def test_adapters_are_what_no_published_checkpoint_has(model: AvatarModel, adapters: Path) -> None:
    names = set(SafetensorsSource([adapters]).shapes)
    assert names == {n for n in model.state_dict() if is_adapter_key(n)}
    parts = {".".join(name.split(".")[:2]) for name in names}
    assert parts == {
        "audio.layer_weights",
        "audio.tokens",
        *(
            f"denoiser.{part}"
            for part in (
                "prompt",
                "token_types",
                "audio_adapters",
                "hand_encoder",
                "control_embedding",
                "guidance_embedding",
                "face_code",
            )
        ),
    }
    with pytest.raises(CheckpointError, match="weights do not fit the config"):
        load_checkpoint(adapters)


def test_a_whole_checkpoint_is_no_adapter(model: AvatarModel, tmp_path: Path) -> None:
    path = tmp_path / "whole.safetensors"
    save_checkpoint(path, model, trained=True, provenance={})
    with pytest.raises(CheckpointError, match="whole checkpoint, which --checkpoint takes"):
        open_adapters(path)


def test_adapters_that_do_not_fit_are_named(adapters: Path, tmp_path: Path) -> None:
    from safetensors import safe_open
    from safetensors.torch import load_file

    with safe_open(adapters, framework="pt") as file:
        metadata = file.metadata()
    tensors = load_file(adapters)
    del tensors["denoiser.token_types"]
    save_file(tensors, adapters, metadata)
    with pytest.raises(CheckpointError, match=r"1 missing: denoiser\.token_types.*mirrorme-train"):
        open_adapters(adapters)
    save_file(tensors, adapters)
    with pytest.raises(CheckpointError, match="not a MirrorMe checkpoint"):
        open_adapters(adapters)
    with pytest.raises(CheckpointError, match=r"no adapters .*published nowhere"):
        open_adapters(tmp_path / "nowhere")


def test_adapters_of_another_backbone_or_preset_are_refused(
    model: AvatarModel, adapters: Path
) -> None:
    opened, wav2vec2 = open_adapters(adapters), wav2vec2_of(model)
    other = dataclasses.replace(
        wav2vec2, backbone=dataclasses.replace(wav2vec2.backbone, num_layers=7)
    )
    with pytest.raises(CheckpointError, match="another wav2vec2: num_layers is 7, want 2"):
        published_config(TEXT, other, opened)
    with pytest.raises(CheckpointError, match="of preset 'tiny', not 'demo'"):
        published_config(preset("demo"), wav2vec2, opened)


@torch.no_grad()
def test_without_adapters_the_base_is_as_it_was(model: AvatarModel) -> None:
    wav2vec2 = wav2vec2_of(model)
    weights = joined_weights(published_config(TEXT, wav2vec2, None), base_of(model), wav2vec2, None)
    assert not weights.trained
    loaded, fresh = weights.load(), AvatarModel.random(TEXT, 0, zero_adapters=True)
    zero = {name for name, t in fresh.state_dict().items() if is_adapter_key(name) and not t.any()}
    # As in a new model, but for biases, which are random there.
    for name, tensor in loaded.state_dict().items():
        if is_adapter_key(name):
            assert tensor.any() == (name not in zero), name
    assert torch.equal(loaded.denoiser.base.proj_out.weight, model.denoiser.base.proj_out.weight)


@pytest.mark.parametrize("suffix", [".safetensors", ".npy"])
def test_a_text_embedding_becomes_the_prompt(
    model: AvatarModel, adapters: Path, tmp_path: Path, suffix: str
) -> None:
    embedding = torch.randn(7, 12)
    path = tmp_path / f"caption{suffix}"
    if suffix == ".npy":
        np.save(path, embedding.numpy())
    else:
        save_file({"any name": embedding[None]}, path)
    prompt = read_text_embedding(path, 12)
    opened, wav2vec2 = open_adapters(adapters), wav2vec2_of(model)
    config = published_config(TEXT, wav2vec2, opened, prompt)
    assert config.dit.text and config.dit.text.num_prompt_tokens == 7
    loaded = joined_weights(config, base_of(model), wav2vec2, opened, prompt).load()
    assert loaded.denoiser.prompt is not None
    assert torch.equal(loaded.denoiser.prompt, embedding[None])


@pytest.mark.parametrize(
    ("tensors", "told"),
    [
        ({"a": torch.zeros(7, 13)}, r"is \[7, 13\]: want \[tokens, 12\]"),
        ({"a": torch.zeros(2, 7, 12)}, r"is \[2, 7, 12\]"),
        ({"a": torch.zeros(0, 12)}, r"is \[0, 12\]"),
        ({"a": torch.full((1, 12), torch.nan)}, "not finite"),
        ({"a": torch.zeros(7, 12), "b": torch.zeros(1)}, "holds 2 tensors: want one"),
    ],
)
def test_other_text_embeddings_are_refused(tmp_path: Path, tensors: dict, told: str) -> None:
    path = tmp_path / "caption.safetensors"
    save_file(tensors, path)
    with pytest.raises(CheckpointError, match=told):
        read_text_embedding(path, 12)


def test_files_that_are_no_text_embedding_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no text embedding"):
        read_text_embedding(tmp_path / "nowhere.npy", 12)
    for suffix in (".npy", ".safetensors"):
        path = tmp_path / f"text{suffix}"
        path.write_text("a person talking")
        with pytest.raises(CheckpointError, match="cannot be read"):
            read_text_embedding(path, 12)


def is_loaded(module: nn.Module) -> bool:
    return not any(tensor.is_meta for tensor in module.state_dict().values())


def test_parts_are_loaded_alone() -> None:
    weights = random_weights(small_config(), seed=1)
    model = weights.load("vae.decoder.", "vae.scale.")
    assert is_loaded(model.vae.decoder) and is_loaded(model.vae.scale)
    assert not is_loaded(model.vae.encoder) and not is_loaded(model.denoiser)
    traced = weights.unread("denoiser.").denoiser
    assert is_loaded(traced)
    shapes = {f"denoiser.{name}": tuple(t.shape) for name, t in traced.state_dict().items()}
    assert shapes.items() <= model_shapes(weights.config).items()


@torch.no_grad()
def test_random_weights_are_the_same_each_time_and_keep_sizes() -> None:
    config = with_narrow_backbone(small_config())
    first, again, other = (random_weights(config, seed) for seed in (1, 1, 2))
    assert first.sha256() == again.sha256() != other.sha256()
    model = first.load()
    frames = model.vae.decode(torch.randn(1, 128, 2, 2, 3))
    assert 0.05 < frames.std() < 20
    latents = model.vae.encode(torch.rand(1, 3, 9, 64, 96) * 2 - 1).mean
    assert 0.05 < latents.std() < 20


def test_all_weights_must_be_there() -> None:
    config: ModelConfig = preset("tiny")
    source = random_weights(config, 0).source
    kept = {name: source.read(name) for name in source.shapes if name != "denoiser.token_types"}
    with pytest.raises(CheckpointError, match=r"1 weights are missing .*denoiser\.token_types"):
        ModelWeights(config, MemorySource(kept), trained=False)
    wrong = {"denoiser.token_types": torch.zeros(1)}
    with pytest.raises(CheckpointError, match=r"of another shape: denoiser\.token_types"):
        ModelWeights(config, JoinedSource(MemorySource(wrong), source), trained=False)
    assert PROMPT not in source.shapes
