"""The denoiser: streaming form, conditions, sampler."""

import dataclasses

import pytest
import torch
from mirrorme_model.avatar import AvatarModel
from mirrorme_model.conditions import Conditions
from mirrorme_model.denoiser import (
    IDENTITY,
    MOTION,
    Denoiser,
    clean_times_s,
    from_tokens,
    noisy_times_s,
    to_tokens,
)
from mirrorme_model.presets import preset
from mirrorme_model.rope import Rope
from torch import Tensor

from tests.model.small_models import every_feature, example


@pytest.fixture(scope="module")
def denoiser() -> Denoiser:
    return AvatarModel.random(every_feature(), seed=3).denoiser


def at_once(denoiser: Denoiser, noisy: Tensor, timestep: Tensor, conditions: Conditions) -> Tensor:
    """The same network on all tokens together, one group a token, with the block mask."""
    prefill = denoiser.prefill(conditions)
    base, adapters = denoiser.base, denoiser.audio_adapters
    num_motion, num_noisy = conditions.motion.shape[1], noisy.shape[1]
    size = noisy.shape[-2] * noisy.shape[-1]
    clean = torch.cat((conditions.identity[:, None], conditions.motion), dim=1)
    assert denoiser.anchor is not None and prefill.center is not None
    deviation = denoiser.anchor.deviation(noisy, timestep, prefill.center)
    seen = denoiser.anchor.seen(deviation, timestep)
    types = denoiser.token_types[[IDENTITY] + [MOTION] * num_motion][:, None]
    x = torch.cat(
        (
            base.patchify_proj(to_tokens(clean)) + types,
            base.patchify_proj(to_tokens(seen)) + prefill.token_bias,
        ),
        dim=1,
    ).flatten(1, 2)[:, :, None]
    num_clean = (1 + num_motion) * size
    time = torch.cat((torch.zeros(len(x), num_clean), timestep.repeat_interleave(size, 1)), dim=1)
    bias = prefill.time_bias.repeat_interleave(size, 1)
    bias = torch.cat((torch.zeros(len(x), num_clean, bias.shape[2]), bias), dim=1)
    shared, embedded = base.adaln_single(time, bias)
    rope = Rope(
        torch.cat((denoiser.clean_cos, denoiser.noisy_cos)),
        torch.cat((denoiser.clean_sin, denoiser.noisy_sin)),
    )
    is_noisy = torch.arange(x.shape[1]) >= num_clean
    mask = is_noisy[:, None] | ~is_noisy[None, :]
    for layer, block in enumerate(base.blocks):
        own = block.modulation(shared)
        modulated = block.modulated(x, own)
        context = block.attn1.keys_values(modulated, rope)
        x = block(x, modulated, own, rope, context, prefill.text[layer], mask=mask)
        if str(layer) in adapters:
            frames = x[:, num_clean:, 0].unflatten(1, (num_noisy, size))
            frames = adapters[str(layer)](frames, prefill.audio[layer], prefill.expression)
            x = torch.cat((x[:, :num_clean], frames.flatten(1, 2)[:, :, None]), dim=1)
    tokens = base.output(x, embedded)[:, num_clean:, 0].unflatten(1, (num_noisy, size))
    made = from_tokens(tokens, noisy.shape[-2:])
    return denoiser.anchor.velocity(deviation, timestep, prefill.center, made)


@torch.no_grad()
def test_streaming_equals_all_tokens_at_once(denoiser: Denoiser) -> None:
    noisy, conditions = example(denoiser)
    timestep = torch.tensor([[0.9, 0.5, 0.1], [0.3, 0.3, 1.0]])
    expected = at_once(denoiser, noisy, timestep, conditions)
    assert expected.std() > 0.3
    result = denoiser(noisy, timestep, conditions)
    torch.testing.assert_close(result, expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_clean_tokens_never_see_noisy_ones(denoiser: Denoiser) -> None:
    """What `prefill` keeps for attention is the same whatever the chunk's own inputs are."""
    _, first = example(denoiser, seed=1)
    _, second = example(denoiser, seed=2)
    second = dataclasses.replace(second, identity=first.identity, motion=first.motion)
    kept = zip(denoiser.prefill(first).clean, denoiser.prefill(second).clean, strict=True)
    assert all(torch.equal(a.keys, b.keys) and torch.equal(a.values, b.values) for a, b in kept)


@torch.no_grad()
def test_the_sampler_walks_from_noise_to_data(denoiser: Denoiser) -> None:
    noise, conditions = example(denoiser)
    x = noise
    for sigma, following in ((1.0, 0.6), (0.6, 0.25), (0.25, 0.0)):
        step = torch.full((2, 3), sigma)
        x = x - (sigma - following) * denoiser(x, step, conditions)
    result = denoiser.sample(noise, conditions, (1.0, 0.6, 0.25, 0.0))
    torch.testing.assert_close(result, x, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_an_exact_velocity_is_sampled_exactly(denoiser: Denoiser, monkeypatch) -> None:
    noise, conditions = example(denoiser)
    data = torch.randn_like(noise)
    monkeypatch.setattr(denoiser, "velocity", lambda x, timestep, prefill: noise - data)
    torch.testing.assert_close(denoiser.sample(noise, conditions), data, atol=1e-5, rtol=0)


FIELDS = [field.name for field in dataclasses.fields(Conditions)]


@pytest.mark.parametrize("name", FIELDS)
@torch.no_grad()
def test_every_condition_has_an_effect_on_its_own_row_alone(denoiser: Denoiser, name: str) -> None:
    noise, conditions = example(denoiser)
    before = denoiser.sample(noise, conditions)
    value = getattr(conditions, name).clone()
    value[1] = value[1] * 0.5 + 0.1
    after = denoiser.sample(noise, dataclasses.replace(conditions, **{name: value}))
    torch.testing.assert_close(after[0], before[0], atol=1e-6, rtol=0)
    assert (after[1] - before[1]).abs().max() > 1e-4


@torch.no_grad()
def test_a_new_model_is_the_base_alone() -> None:
    """Adapters start at zero: speech, hands, controls and guidance have no effect yet."""
    fresh = AvatarModel.random(every_feature(), seed=3, zero_adapters=True).denoiser
    noise, conditions = example(fresh)
    before = fresh.sample(noise, conditions)
    _, others = example(fresh, seed=7)
    others = dataclasses.replace(others, identity=conditions.identity, motion=conditions.motion)
    assert torch.equal(fresh.sample(noise, others), before)


def test_a_new_model_can_learn_all_of_them() -> None:
    fresh = AvatarModel.random(every_feature(), seed=3, zero_adapters=True).denoiser
    noise, conditions = example(fresh)
    fresh(noise, torch.full((2, 3), 0.5), conditions).square().sum().backward()
    for parameter in (
        fresh.token_types,
        fresh.prompt,
        *(a.attention.to_out[0].weight for a in fresh.audio_adapters.values()),
        fresh.hand_encoder.output.weight,
        fresh.control_embedding.output.weight,
        fresh.guidance_embedding.embedder.linear_2.weight,
        *(block.attn1.to_q.weight for block in fresh.base.blocks),
    ):
        assert parameter.grad.abs().max() > 0


@torch.no_grad()
def test_no_expression_is_no_speech(denoiser: Denoiser) -> None:
    noise, conditions = example(denoiser)
    still = dataclasses.replace(conditions, expression=torch.zeros(2))
    silent = dataclasses.replace(still, audio_tokens=torch.zeros_like(still.audio_tokens))
    assert torch.equal(denoiser.sample(noise, still), denoiser.sample(noise, silent))


@torch.no_grad()
def test_a_latent_frame_sees_its_own_speech_alone(denoiser: Denoiser) -> None:
    _, conditions = example(denoiser)
    x = torch.randn(2, 3, 6, denoiser.config.dit.width)
    adapter = denoiser.audio_adapters["0"]
    tokens = conditions.audio_tokens.clone()
    before = adapter(x, adapter.keys_values(tokens), torch.ones(2, 1, 1, 1))
    tokens[:, 1] += 1
    after = adapter(x, adapter.keys_values(tokens), torch.ones(2, 1, 1, 1))
    changed = (after - before).abs().amax(dim=(0, 2, 3))
    assert changed[0] == changed[2] == 0 and changed[1] > 1e-3


@torch.no_grad()
def test_latent_frames_have_their_own_timestep(denoiser: Denoiser) -> None:
    noise, conditions = example(denoiser)
    prefill = denoiser.prefill(conditions)
    same = denoiser.velocity(noise, torch.full((2, 3), 0.5), prefill)
    torch.testing.assert_close(denoiser.velocity(noise, torch.full((1, 1), 0.5), prefill), same)
    other = denoiser.velocity(noise, torch.tensor([[0.5, 0.5, 0.9]]), prefill)
    assert (other[:, 2] - same[:, 2]).abs().max() > 1e-3


def test_guidance_is_for_models_with_guidance() -> None:
    without = AvatarModel.random(preset("tiny"), seed=0).denoiser
    noise, conditions = example(without)
    with pytest.raises(ValueError, match="guidance"):
        without.sample(noise, dataclasses.replace(conditions, guidance=torch.ones(2)))


def test_positions_are_relative_to_the_chunk() -> None:
    config = every_feature()
    assert [float(24 * t) for t in clean_times_s(config)] == [-64, -16, -8]
    assert [float(24 * t) for t in noisy_times_s(config)] == [0, 8, 16]
