"""The face code: what it says, and how it gets into latents and out of them."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from mirrorme_model.avatar import AvatarModel
from mirrorme_model.config import CODED_FRAMES, LipsConfig, ModelConfig
from mirrorme_model.errors import ConfigError
from mirrorme_model.face_code import FaceCode
from mirrorme_model.graphs import DenoiserGraph, IdentityEncoderGraph
from mirrorme_model.presets import preset

from tests.model.small_models import example

JAW, YAW = 0, 29


@pytest.fixture(scope="module")
def code(tiny: AvatarModel) -> FaceCode:
    assert tiny.denoiser.face_code is not None
    return tiny.denoiser.face_code


@torch.no_grad()
def test_what_is_asked_of_a_control_is_in_the_code(tiny: AvatarModel, code: FaceCode) -> None:
    names = [control.name for control in tiny.config.controls.controls]
    assert (names[JAW], names[YAW]) == ("jawOpen", "head_yaw")
    _, conditions = example(tiny.denoiser, batch=1)
    values, weights = torch.zeros(1, 8, len(names)), torch.zeros(1, 8, len(names))
    values[..., JAW] = torch.arange(8) / 10
    values[..., YAW], weights[..., [JAW, YAW]] = 15.0, 1.0
    made = code(conditions.audio_tokens, conditions.expression, values, weights)[0, 0]
    first, last = made[8:].unflatten(0, (2, -1))
    jaws = torch.tensor(CODED_FRAMES) / 10
    torch.testing.assert_close(torch.stack([first[JAW], last[JAW]]), jaws)
    torch.testing.assert_close(torch.stack([first[YAW], last[YAW]]), torch.full((2,), 0.5))


@torch.no_grad()
def test_no_expression_is_no_speech(tiny: AvatarModel, code: FaceCode) -> None:
    _, conditions = example(tiny.denoiser)
    given = conditions.controls, conditions.control_weights
    tokens = conditions.audio_tokens
    one, none = torch.ones(2), torch.zeros(2)
    assert not torch.allclose(code(tokens, one, *given), code(-tokens, one, *given))
    torch.testing.assert_close(code(tokens, none, *given), code(-tokens, none, *given))


def test_truth_has_the_codes_places(code: FaceCode) -> None:
    opening = torch.arange(16.0)[None] / 100
    controls = torch.zeros(1, 16, len(code.scale))
    controls[0, :, YAW] = 30.0
    controls[0, 8 + CODED_FRAMES[1], JAW] = float("nan")
    truth = code.truth(opening, controls)
    assert truth.shape == (1, 2, 8 + 2 * len(code.scale))
    torch.testing.assert_close(truth[0, 1, :8], opening[0, 8:] / 0.1)
    assert truth[0, :, [8 + YAW, 8 + len(code.scale) + YAW]].eq(1).all()
    assert truth.isnan().nonzero().tolist() == [[0, 1, 8 + len(code.scale) + JAW]]


@torch.no_grad()
def test_the_engine_adds_the_code_to_every_token(tiny: AvatarModel, code: FaceCode) -> None:
    noise, conditions = example(tiny.denoiser)
    channels = tiny.config.vae.picture_channels
    graph = DenoiserGraph(tiny.denoiser)
    fields = {name: getattr(conditions, name) for name in graph.input_names if name != "noise"}
    latents = graph(noise, **fields)
    assert latents.shape[2] == tiny.config.vae.latent_channels > channels
    assert torch.equal(latents[:, :, :channels], tiny.denoiser.sample(noise, conditions))
    told = code(
        conditions.audio_tokens, conditions.expression, conditions.controls,
        conditions.control_weights,
    )  # fmt: skip
    face = latents[:, :, channels : channels + tiny.config.vae.face_channels]
    assert torch.equal(face, told[..., None, None].expand_as(face))


@torch.no_grad()
def test_the_denoiser_looks_at_pictures_alone(tiny: AvatarModel) -> None:
    inputs = dict(
        zip(
            DenoiserGraph(tiny.denoiser).input_names,
            DenoiserGraph(tiny.denoiser).example_inputs(2),
            strict=True,
        )
    )
    graph = DenoiserGraph(tiny.denoiser)
    before = graph(**inputs)
    channels = tiny.config.vae.picture_channels
    for name in ("noise", "identity", "motion"):
        inputs[name] = inputs[name].clone()
        inputs[name].narrow(-3, channels, tiny.config.vae.cue_channels).add_(1.0)
    assert torch.equal(graph(**inputs), before)


@torch.no_grad()
def test_portraits_are_at_rest(tiny: AvatarModel) -> None:
    image = torch.randint(0, 256, (1, 64, 64, 3), dtype=torch.uint8)
    identity = IdentityEncoderGraph(tiny.vae)(image)
    channels = tiny.config.vae.picture_channels
    assert identity.shape[1] == tiny.config.vae.latent_channels
    assert not identity[:, channels:].any()
    clip = identity[:, :, None]
    assert torch.equal(tiny.vae.decode(clip[:, :channels]), tiny.vae.decode(clip))


@torch.no_grad()
def test_the_decoder_hears_the_code(tiny: AvatarModel) -> None:
    noise, conditions = example(tiny.denoiser)
    latents = tiny.denoiser.sample(noise, conditions)
    told = tiny.denoiser.with_cues(latents, conditions).transpose(1, 2)
    window = torch.cat([told] * (tiny.vae.config.context_latents + 1), dim=2)
    before = tiny.vae.decode_chunk(window)
    window[:, tiny.config.vae.picture_channels, -1] += 1.0
    assert not torch.allclose(tiny.vae.decode_chunk(window), before)


@torch.no_grad()
def test_lips_that_close_are_told_to_close_further(tiny: AvatarModel) -> None:
    lips = LipsConfig(overshoot=2.0, closer_ratio=0.03)
    further = FaceCode(dataclasses.replace(tiny.config, lips=lips))
    made = torch.rand(1, 2, tiny.config.vae.face_channels)
    opening = torch.tensor([[2.0, 2.0, 2.0, 1.0, 2.0, 2.0, 2.0, 2.0], [0.0] * 8])
    made[0, :, :8] = opening
    told = further.told(made)
    assert torch.equal(told[..., 8:], made[..., 8:]), "no control is"
    # Between 1 and the mean of five, 1.8, lie 0.8.
    torch.testing.assert_close(told[0, 0, 3], torch.tensor(1.0 - 2 * 0.8 - 0.3))
    others = [0, 1, 2, 4, 5, 6, 7]
    torch.testing.assert_close(told[0, 0, others], opening[0, others] - 0.3)
    torch.testing.assert_close(told[0, 1, :8], opening[1] - 0.3)


@torch.no_grad()
def test_what_the_engine_tells_of_lips_is_what_training_makes_and_more(tiny: AvatarModel) -> None:
    lips = LipsConfig(closer_ratio=0.05)
    further = AvatarModel.random(dataclasses.replace(tiny.config, lips=lips), 0)
    further.load_state_dict(tiny.state_dict())
    noise, conditions = example(tiny.denoiser)
    as_made, told = (m.denoiser.with_cues(noise, conditions) for m in (tiny, further))
    channels = tiny.config.vae.picture_channels
    taken_off = torch.zeros_like(as_made)
    taken_off[:, :, channels : channels + 8] = 0.5
    torch.testing.assert_close(told, as_made - taken_off)
    ours, theirs = tiny.denoiser.face_code, further.denoiser.face_code
    assert ours is not None and theirs is not None
    given = (conditions.audio_tokens, conditions.expression)
    asked = (conditions.controls, conditions.control_weights)
    assert torch.equal(ours(*given, *asked), theirs(*given, *asked))


def test_lips_do_not_open_instead() -> None:
    with pytest.raises(ConfigError, match="at least 0"):
        LipsConfig(overshoot=-1.0)


def test_checkpoints_from_before_lips_are_told_as_heard() -> None:
    config = preset("tiny")
    document = json.loads(config.to_json())
    del document["lips"]
    assert ModelConfig.from_json(json.dumps(document)) == config


def test_channels_must_be_those_of_the_controls() -> None:
    config = preset("tiny")
    vae = dataclasses.replace(config.vae, face_channels=config.vae.face_channels - 1)
    with pytest.raises(ConfigError, match="face_channels"):
        dataclasses.replace(config, vae=vae)
    assert ModelConfig.from_json(config.to_json()) == config
