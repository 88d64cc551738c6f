"""What the VAE's losses see of an error."""

from __future__ import annotations

import torch
from mirrorme_training.vae_loss import movement_loss


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
