"""The anchor's guess: the best that can be known of a chunk without looking at the noise."""

from __future__ import annotations

import itertools

import pytest
import torch
from mirrorme_model.anchor import Anchor
from torch import Tensor

CHANNELS = 3
STD = torch.tensor([0.1, 0.5, 1.2])


@pytest.fixture
def anchor() -> Anchor:
    made = Anchor(CHANNELS, width=8).requires_grad_(False)
    made.mix.copy_(torch.tensor([[0.2, 0.5, 1.0], [0.8, 0.4, 0.0]]))
    made.log_std.copy_(STD.log())
    return made


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_center_mixes_portrait_and_last_motion(anchor: Anchor) -> None:
    identity, motion = normal(2, CHANNELS, 1, 1, seed=0), normal(2, 4, CHANNELS, 1, 1, seed=1)
    center = anchor.center(identity, motion)
    assert center.shape == (2, 1, CHANNELS, 1, 1)
    assert torch.allclose(center[:, 0, 2], identity[:, 2])
    assert torch.allclose(center[:, 0, 0], 0.2 * identity[:, 0] + 0.8 * motion[:, -1, 0])


@pytest.mark.parametrize("time", [0.1, 0.5, 0.95])
def test_what_is_left_is_of_unit_variance_and_not_known_from_the_noisy(
    anchor: Anchor, time: float
) -> None:
    center = torch.tensor([2.0, -1.0, 0.5]).reshape(1, 1, CHANNELS, 1, 1)
    data = center + STD[:, None, None] * normal(4000, 1, CHANNELS, 2, 2, seed=2)
    noise = normal(*data.shape, seed=3)
    t = torch.tensor([[time]])
    seen = anchor.deviation((1 - time) * data + time * noise, t, center)
    silent = anchor.velocity(seen, t, center, torch.zeros_like(seen))
    gain = anchor.velocity(seen, t, center, torch.ones_like(seen)) - silent
    wanted = (noise - data - silent) / gain
    for channel in range(CHANNELS):
        rest, known = wanted[:, :, channel].flatten(), seen[:, :, channel].flatten()
        assert abs(float(torch.corrcoef(torch.stack([rest, known]))[0, 1])) < 0.03


def test_of_pure_noise_the_transformer_sees_nothing_and_of_clean_data_all(anchor: Anchor) -> None:
    deviation = normal(2, 1, CHANNELS, 2, 2, seed=5)
    assert not anchor.seen(deviation, torch.ones(1, 1)).any()
    clean = anchor.seen(deviation, torch.zeros(1, 1))
    assert torch.allclose(clean, deviation / STD[:, None, None])


def test_steps_without_a_transformer_draw_from_the_guess(anchor: Anchor) -> None:
    center = torch.tensor([2.0, -1.0, 0.5]).reshape(1, 1, CHANNELS, 1, 1)
    x = normal(2000, 1, CHANNELS, 1, 1, seed=4)
    for time, following in itertools.pairwise(torch.linspace(1, 0, 101).tolist()):
        t = torch.tensor([[time]])
        seen = anchor.deviation(x, t, center)
        x = x + (following - time) * anchor.velocity(seen, t, center, torch.zeros_like(x))
    assert torch.allclose(x.mean(dim=(0, 1, 3, 4)), center.flatten(), atol=0.08)
    assert torch.allclose(x.std(dim=(0, 1, 3, 4)), STD, rtol=0.08)
