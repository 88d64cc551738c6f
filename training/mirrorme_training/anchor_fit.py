"""The anchor of a fresh denoiser in closed form: least squares, channel by channel."""

from __future__ import annotations

import torch
from mirrorme_model.anchor import Anchor
from torch import Tensor

_RIDGE = 1e-3
_MIN_STD = 0.02


@torch.no_grad()
def fit_anchor(anchor: Anchor, identity: Tensor, motion: Tensor, target: Tensor) -> None:
    """Fits the mix of portrait and motion, and how far data is from it.

    Args:
        anchor: changed.
        identity: [B, C, h, w].
        motion: [B, M, C, h, w].
        target: [B, F, C, h, w].
    """
    given = torch.stack([identity, motion[:, -1]]).double()
    truth = target.double()
    squares = torch.einsum("ibchw,jbchw->cij", given, given)
    ridge = torch.eye(2, dtype=squares.dtype, device=squares.device) * _RIDGE
    ridge = ridge * squares.diagonal(dim1=1, dim2=2).mean(dim=1)[:, None, None]
    products = torch.einsum("ibchw,bchw->ci", given, truth.mean(dim=1))
    mix = torch.linalg.solve(squares + ridge, products).T
    rest = truth - torch.einsum("ic,ibchw->bchw", mix, given)[:, None]
    anchor.mix.copy_(mix)
    anchor.log_std.copy_(rest.square().mean(dim=(0, 1, 3, 4)).sqrt().clamp(min=_MIN_STD).log())
