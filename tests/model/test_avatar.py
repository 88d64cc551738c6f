"""Random models: deterministic, finite, of order one."""

import pytest
import torch
from mirrorme_model.avatar import AvatarModel
from mirrorme_model.graphs import AudioEncoderGraph, DenoiserGraph
from mirrorme_model.presets import preset

from tests.model.small_models import every_feature


def test_the_same_seed_gives_the_same_weights() -> None:
    config = preset("tiny")
    before = torch.get_rng_state()
    first = AvatarModel.random(config, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(1)
    assert AvatarModel.random(config, seed=1).weights_sha256() == first.weights_sha256()
    assert AvatarModel.random(config, seed=2).weights_sha256() != first.weights_sha256()


@pytest.mark.parametrize("config", [preset("tiny"), every_feature(), preset("demo")])
@torch.no_grad()
def test_outputs_are_of_order_one(config) -> None:
    model = AvatarModel.random(config, seed=0)
    for graph in (AudioEncoderGraph(model.audio), DenoiserGraph(model.denoiser)):
        output = graph(*graph.example_inputs(2))
        assert 0.3 < output.std() < 3
        assert output.abs().max() < 12


@torch.no_grad()
def test_latents_stay_of_order_one_over_many_chunks() -> None:
    model = AvatarModel.random(preset("tiny"), seed=0)
    graph = DenoiserGraph(model.denoiser)
    inputs = dict(zip(graph.input_names, graph.example_inputs(1), strict=True))
    for chunk in range(50):
        inputs["noise"] = graph.example_inputs(1, seed=chunk)[0]
        inputs["motion"] = graph(**inputs)[:, -1:]
    assert 0.3 < inputs["motion"].std() < 3


def test_the_base_can_be_told_from_ours() -> None:
    model = AvatarModel.random(every_feature(), seed=0)
    base = {name for name, _ in model.denoiser.named_parameters() if name.startswith("base.")}
    assert base == {f"base.{name}" for name, _ in model.denoiser.base.named_parameters()}
    assert not any("adapter" in name or "hand" in name or "control" in name for name in base)


@pytest.mark.parametrize(("height_px", "chunk_latents"), [(512, 3), (768, 1)])
def test_ltx_2b_can_be_built(height_px: int, chunk_latents: int) -> None:
    config = preset("ltx-2b", height_px=height_px, chunk_latents=chunk_latents)
    with torch.device("meta"):
        model = AvatarModel(config)
    tokens = chunk_latents * 16 * height_px // 32
    assert model.denoiser.noisy_cos.shape == (tokens, 2048)
    assert model.audio.window.num_phases == {1: 3, 3: 1}[chunk_latents]
