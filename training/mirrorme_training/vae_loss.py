"""How far reconstructed frames are from the truth."""

from __future__ import annotations

import torch
from mirrorme_model.vae import Posterior
from torch import Tensor, nn

from mirrorme_training.recipe import DecoderStageConfig, VaeStageConfig

_CHARBONNIER = 1e-3
_EDGE_SCALES = 3
_DEVIATION_SCALES = 3


def pixel_loss(
    difference: Tensor, weights: Tensor, config: VaeStageConfig | DecoderStageConfig
) -> Tensor:
    """All of the below together, each by its weight in the recipe; `[B, 3, T, H, W]`."""
    return (
        weighted_charbonnier(difference, weights)
        + config.square_weight * weighted_square(difference, weights)
        + config.edge_weight * edge_loss(difference)
        + config.movement_weight * movement_loss(difference, weights)
        + config.deviation_weight * deviation_loss(difference, weights)
    )


def weighted_charbonnier(difference: Tensor, weights: Tensor) -> Tensor:
    """A smooth absolute error (Lai et al., 2017); `weights` broadcast over `[B, 3, T, H, W]`."""
    error = torch.sqrt(difference.square() + _CHARBONNIER**2)
    return (error * weights).mean() / weights.mean()


def weighted_square(difference: Tensor, weights: Tensor) -> Tensor:
    """The mean squared error."""
    return (difference.square() * weights).mean() / weights.mean()


def edge_loss(difference: Tensor) -> Tensor:
    """Absolute error of neighbouring pixels' differences, at three scales; `[B, 3, T, H, W]`.

    The gradients are linear, so the difference of pictures is enough.
    """
    x = difference.transpose(1, 2).flatten(0, 1)
    total = x.new_zeros(())
    for scale in range(_EDGE_SCALES):
        if scale:
            x = nn.functional.avg_pool2d(x, 2)
        across, down = x[..., 1:] - x[..., :-1], x[..., 1:, :] - x[..., :-1, :]
        total = total + across.abs().mean() + down.abs().mean()
    return total


def movement_loss(difference: Tensor, weights: Tensor) -> Tensor:
    """Absolute error of the change from a frame to the next; `[B, 3, T, H, W]`."""
    if difference.shape[2] < 2:
        return difference.new_zeros(())
    change = (difference[:, :, 1:] - difference[:, :, :-1]).abs()
    both = (weights[:, :, 1:] + weights[:, :, :-1]) / 2
    return (change * both).mean() / both.mean()


def deviation_loss(difference: Tensor, weights: Tensor) -> Tensor:
    """Squared error of how frames differ from their mean over the clip; `[B, 3, T, H, W]`.

    An absolute error hardly feels a small movement where the face stands wrong by more, and is at
    its least with no movement at all where one cannot be placed for certain. This one feels it, at
    three scales: a brow that is raised beside its place is raised all the same.
    """
    deviation = difference - difference.mean(dim=2, keepdim=True)
    x = deviation.transpose(1, 2).flatten(0, 1)
    w = weights.transpose(1, 2).flatten(0, 1)
    total = x.new_zeros(())
    for scale in range(_DEVIATION_SCALES):
        if scale:
            x, w = nn.functional.avg_pool2d(x, 2), nn.functional.avg_pool2d(w, 2)
        total = total + weighted_square(x, w)
    return total


def kl_divergence(posterior: Posterior) -> Tensor:
    """From the standard normal distribution, a latent number, in nats (Kingma and Welling)."""
    mean, log_variance = posterior.mean.float(), posterior.log_variance.float()
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()


def psnr_db(difference: Tensor) -> Tensor:
    """Of frames in -1 to 1, over the batch."""
    return 10 * torch.log10(4 / difference.square().mean().clamp(min=1e-12))
