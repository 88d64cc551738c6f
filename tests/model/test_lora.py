"""LoRA of the base: nothing at first, the same merged as beside the weights, whole in its file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mirrorme_model.adapter_checkpoint import is_adapter_key, open_adapters, save_adapters
from mirrorme_model.avatar import AvatarModel
from mirrorme_model.errors import CheckpointError
from mirrorme_model.lora import add_lora, is_lora_key
from mirrorme_model.model_weights import joined_weights, model_shapes
from mirrorme_model.tensor_source import SafetensorsSource
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tests.model.small_models import example
from tests.model.test_model_weights import TEXT, base_of, wav2vec2_of

RANK = 3


@pytest.fixture
def plain() -> AvatarModel:
    return AvatarModel.random(TEXT, seed=5)


@pytest.fixture
def changed(plain: AvatarModel) -> AvatarModel:
    """A base whose LoRA was trained."""
    model = AvatarModel(TEXT).eval()
    model.load_state_dict(plain.state_dict())
    torch.manual_seed(0)
    add_lora(model.denoiser.base, RANK)
    for name, parameter in model.named_parameters():
        if is_lora_key(name):
            torch.nn.init.normal_(parameter, std=0.2)
    return model


@torch.no_grad()
def test_a_fresh_lora_changes_nothing_and_keeps_every_name(plain: AvatarModel) -> None:
    noise, conditions = example(plain.denoiser)
    before = plain.denoiser.sample(noise, conditions)
    names = set(plain.state_dict())
    add_lora(plain.denoiser.base, RANK)
    assert torch.equal(plain.denoiser.sample(noise, conditions), before)
    added = set(plain.state_dict()) - names
    assert names < set(plain.state_dict())
    assert added == {name for name in plain.state_dict() if is_lora_key(name)}
    # Queries, keys, values, output, and the two layers of the feed-forward; text has none.
    assert len(added) == 2 * 6 * TEXT.dit.num_layers
    assert not any("attn2" in name for name in added)


@torch.no_grad()
def test_merged_is_the_same_as_beside(
    plain: AvatarModel, changed: AvatarModel, tmp_path: Path
) -> None:
    path = tmp_path / "adapter.safetensors"
    save_adapters(path, changed, trained=True, provenance={})
    adapters, wav2vec2 = open_adapters(path), wav2vec2_of(plain)
    assert adapters.lora_rank == RANK
    weights = joined_weights(TEXT, base_of(plain), wav2vec2, adapters)
    assert weights.source.shapes == model_shapes(TEXT), "exporters see a plain model"
    merged = weights.load()
    noise, conditions = example(plain.denoiser)
    want = changed.denoiser.sample(noise, conditions)
    torch.testing.assert_close(merged.denoiser.sample(noise, conditions), want, atol=1e-4, rtol=0)
    assert (plain.denoiser.sample(noise, conditions) - want).abs().max() > 0.01
    apart = joined_weights(TEXT, base_of(plain), wav2vec2, adapters, merge_lora=False).load()
    assert apart.weights_sha256() == plain.weights_sha256()


def test_the_file_holds_the_lora_and_no_base(changed: AvatarModel, tmp_path: Path) -> None:
    path = tmp_path / "adapter.safetensors"
    save_adapters(path, changed, trained=True, provenance={})
    names = set(SafetensorsSource([path]).shapes)
    assert names == {name for name in changed.state_dict() if is_adapter_key(name)}
    assert not any(n.startswith("denoiser.base.") and not is_lora_key(n) for n in names)


def test_half_a_lora_is_refused(changed: AvatarModel, tmp_path: Path) -> None:
    path = tmp_path / "adapter.safetensors"
    save_adapters(path, changed, trained=True, provenance={})
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    tensors = load_file(path)
    missing = "denoiser.base.transformer_blocks.1.ff.net.2.lora_up"
    del tensors[missing]
    save_file(tensors, path, metadata)
    with pytest.raises(CheckpointError, match=f"1 missing: {missing}"):
        open_adapters(path)
