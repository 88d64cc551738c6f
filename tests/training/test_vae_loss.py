"""What the VAE's losses see of an error."""

from __future__ import annotations

import torch
from mirrorme_training.vae_loss import deviation_loss, movement_loss


def test_errors_that_stand_still_are_no_movement() -> None:
    ones = torch.ones(1, 1, 4, 8, 8)
    still = torch.rand(1, 3, 1, 8, 8).expand(-1, -1, 4, -1, -1)
    assert movement_loss(still, ones) == 0
    jumping = still.clone()
    jumping[:, :, 2:] += 0.25
    assert torch.isclose(movement_loss(jumping, ones), torch.tensor(0.25 / 3))
    assert movement_loss(still[:, :, :1], ones[:, :, :1]) == 0, "a picture does not move"


def test_movement_counts_where_it_weighs() -> None:
    error, weights = torch.zeros(1, 3, 2, 2, 2), torch.ones(1, 1, 2, 2, 2)
    error[:, :, 1, 0, 0] = 1.0
    even = movement_loss(error, weights)
    weights[..., 0, 0] = 5.0
    assert movement_loss(error, weights) > 2 * even


def test_a_small_movement_counts_however_wrong_the_face_stands() -> None:
    ones = torch.ones(1, 1, 4, 16, 16)
    moves = torch.zeros(1, 3, 4, 16, 16)
    moves[:, :, 2:] = 0.1
    wrong = moves + torch.rand(1, 3, 1, 16, 16)
    assert torch.isclose(deviation_loss(wrong, ones), deviation_loss(moves, ones), rtol=1e-3)
    assert torch.isclose(deviation_loss(moves, ones), torch.tensor(3 * 0.05**2))


def test_a_movement_beside_its_place_is_better_than_none() -> None:
    ones = torch.ones(1, 1, 2, 16, 16)
    wanted, beside = torch.zeros(2, 1, 3, 2, 16, 16)
    wanted[:, :, 1, 4, 4:12], beside[:, :, 1, 5, 4:12] = 1.0, 0.5
    assert deviation_loss(beside - wanted, ones) < deviation_loss(-wanted, ones)
