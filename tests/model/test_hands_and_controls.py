"""Hand encoder and facial controls: what is drawn, and what "not given" means."""

import pytest
import torch
from mirrorme_model.config import HandConfig, VideoConfig
from mirrorme_model.controls import ControlEmbedding
from mirrorme_model.hand_encoder import HandEncoder
from mirrorme_model.presets import preset

VIDEO = VideoConfig(height_px=128, width_px=192)


@pytest.fixture
def hands() -> HandEncoder:
    torch.manual_seed(0)
    encoder = HandEncoder(HandConfig(sigma_tokens=0.7, hidden_width=8), VIDEO, 12)
    torch.nn.init.normal_(encoder.output.weight)
    return encoder


def one_point(x: float, y: float, visibility: float) -> torch.Tensor:
    """Of the second frame of the second latent frame: the left hand's third landmark."""
    keypoints = torch.zeros(1, 16, 2, 21, 3)
    keypoints[0, 9, 0, 2] = torch.tensor([x, y, visibility])
    return keypoints


def test_a_point_is_drawn_where_it_is(hands: HandEncoder) -> None:
    # The middle of the token in row 2, column 4 of 4 x 6.
    raster = hands.raster(one_point(4.5 / 6, 2.5 / 4, 0.8)).unflatten(2, (4, 6))
    near, right, below = raster[0, 1].unflatten(-1, (3, 8 * 42))[..., 42 + 2].unbind(-1)
    assert near[2, 4] == pytest.approx(0.8)
    assert right[2, 4] == pytest.approx(0, abs=1e-5)
    one_away = 0.8 * torch.exp(torch.tensor(-1 / (2 * 0.7**2)))
    torch.testing.assert_close(near[2, 3], one_away)
    torch.testing.assert_close(right[2, 3], one_away / 0.7)
    torch.testing.assert_close(below[3, 4], -one_away / 0.7)
    assert raster[0, 0].abs().max() == 0
    assert raster[0, 1].count_nonzero(dim=-1).max() <= 3


@pytest.mark.parametrize(("x", "y"), [(0.3, 0.6), (-1.0, 2.0), (1e3, -1e3)])
@torch.no_grad()
def test_a_point_that_is_not_visible_is_not_given(hands: HandEncoder, x: float, y: float) -> None:
    absent = hands(torch.zeros(1, 16, 2, 21, 3))
    assert torch.equal(hands(one_point(x, y, 0.0)), absent)
    assert absent.isfinite().all()


@torch.no_grad()
def test_positions_are_finer_than_a_token(hands: HandEncoder) -> None:
    a, b = (hands(one_point(x, 0.5, 1.0)) for x in (0.5, 0.505))
    assert (a - b).abs().max() > 1e-3


def test_hands_start_at_zero() -> None:
    fresh = HandEncoder(HandConfig(sigma_tokens=1.0, hidden_width=8), VIDEO, 12)
    assert fresh(torch.rand(2, 16, 2, 21, 3)).abs().max() == 0


@pytest.fixture
def controls() -> ControlEmbedding:
    torch.manual_seed(0)
    embedding = ControlEmbedding(preset("tiny").controls, 12)
    torch.nn.init.normal_(embedding.output.weight)
    return embedding


@torch.no_grad()
def test_a_control_without_weight_is_not_given(controls: ControlEmbedding) -> None:
    count = len(preset("tiny").controls.controls)
    absent = controls(torch.zeros(2, 16, count), torch.zeros(2, 16, count))
    assert absent.shape == (2, 2, 12)
    assert torch.equal(controls(torch.rand(2, 16, count), torch.zeros(2, 16, count)), absent)


@torch.no_grad()
def test_a_control_given_as_zero_is_given(controls: ControlEmbedding) -> None:
    count = len(preset("tiny").controls.controls)
    values, weights = torch.zeros(1, 16, count), torch.zeros(1, 16, count)
    absent = controls(values, weights)
    weights[0, 8:, 3] = 1
    changed = (controls(values, weights) - absent).abs().amax(dim=(0, 2))
    assert changed[0] == 0 and changed[1] > 1e-3


@torch.no_grad()
def test_an_amplified_control_counts_for_more_and_no_other_does(
    controls: ControlEmbedding,
) -> None:
    count = len(preset("tiny").controls.controls)
    values, given = torch.rand(1, 16, count), torch.ones(1, 16, count)
    more = values.clone()
    more[..., 4] *= 1.5
    wanted = controls(more, given)
    absent = controls(values, torch.zeros(1, 16, count))
    controls.amplify(4, 1.5)
    torch.testing.assert_close(controls(values, given), wanted)
    torch.testing.assert_close(controls(values, torch.zeros(1, 16, count)), absent)


def test_controls_are_scaled_by_their_range(controls: ControlEmbedding) -> None:
    names = [control.name for control in preset("tiny").controls.controls]
    assert controls.scale[names.index("jawOpen")] == 1
    assert controls.scale[names.index("head_yaw")] == pytest.approx(1 / 30)
