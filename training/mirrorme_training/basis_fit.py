"""The linear path of a fresh VAE in closed form: principal components of what is seen and moves."""

from __future__ import annotations

from typing import NamedTuple

import torch
from mirrorme_model.patch_basis import PatchBasis
from mirrorme_model.vae import VideoVae
from mirrorme_model.vae_config import FRAMES_PER_LATENT, SPATIAL_FACTOR
from mirrorme_model.vae_layers import Conv
from mirrorme_model.video_encoder import patchify
from torch import Tensor

from mirrorme_training.clip_bank import ClipBank
from mirrorme_training.clip_casting import to_video
from mirrorme_training.clip_window import MASK_STRIDE, token_masks

_MOVEMENT_SHARE = 0.4375
"""Of the channels: 56 of 128. The others are of the mean of 8 frames, which pictures have too."""
_MAX_BLOCKS = 28_000
_STILLS_PER_CLIP = 100
_MOVEMENTS_PER_CLIP = 70
_SPARE_COMPONENTS = 72
_MIN_STD = 1e-3
_POWER_ITERATIONS = 4
_FACE_ODDS = 2.0
_MOUTH_ODDS = 6.0
_MOVING_MOUTH_ODDS = 60.0
"""How much more often blocks of pixels are drawn there: faces are little of a picture, and mouths
are most of what moves within 8 frames."""


@torch.no_grad()
def fit_basis(vae: VideoVae, bank: ClipBank, seed: int) -> None:
    """Fits the basis to the bank's clips, and silences the networks beside it.

    Components of what moves are found by themselves: in those of whole blocks, how pictures differ
    outweighs how a mouth moves within 8 frames. The networks' last layers are set to zero, so
    training starts at this linear VAE.
    """
    basis = vae.basis
    if basis is None:
        return
    generator = torch.Generator().manual_seed(seed)
    channels = vae.config.picture_channels
    num_moving = int(channels * _MOVEMENT_SHARE)
    num_still = channels - num_moving
    stills, movements = _draw(vae, basis, bank, generator)
    mean = stills.mean(dim=0)
    basis.mean.copy_(mean.repeat(FRAMES_PER_LATENT))
    found = _components(stills - mean, num_still, seed)
    # The same in each frame, so of the same length as what moves.
    repeated = FRAMES_PER_LATENT**0.5
    _set(basis, 0, found.rows.repeat(1, FRAMES_PER_LATENT) / repeated, found.std * repeated)
    found = _components(movements, num_moving, seed)
    _set(basis, num_still, found.rows, found.std)
    if vae.decoder is not None:
        _silence(vae.decoder.conv_out, None)
    if vae.encoder is not None:
        _silence(vae.encoder.conv_out, channels)


class _Components(NamedTuple):
    rows: Tensor
    """[n, pixels] of length 1"""
    std: Tensor
    """[n] of data along each"""


def _components(data: Tensor, wanted: int, seed: int) -> _Components:
    """The strongest; fewer than wanted if the data has no more rows."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        _, sizes, directions = torch.svd_lowrank(
            data, min(wanted + _SPARE_COMPONENTS, *data.shape), niter=_POWER_ITERATIONS
        )
    return _Components(directions.T[:wanted], sizes[:wanted] / len(data) ** 0.5)


def _set(basis: PatchBasis, start: int, rows: Tensor, std: Tensor) -> None:
    some = slice(start, start + len(rows))
    basis.weight[some] = rows * len(basis.mean) ** 0.5
    basis.log_gain[some] = -std.clamp(min=_MIN_STD).log()


def _silence(conv: Conv, count: int | None) -> None:
    """Sets the first output channels to zero; None: all."""
    conv.conv.weight[:count].zero_()
    if conv.conv.bias is not None:
        conv.conv.bias[:count].zero_()


def _draw(
    vae: VideoVae, basis: PatchBasis, bank: ClipBank, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Means of 8 frames `[n, pixels / 8]`, and blocks less their means `[n, pixels]`."""
    stills: list[Tensor] = []
    movements: list[Tensor] = []
    for slot in range(min(len(bank), _MAX_BLOCKS // _STILLS_PER_CLIP)):
        frames, masks = bank["frames"][slot], bank["masks"][slot].movedim(-1, 1)
        blocks = basis.blocks(patchify(to_video(frames[1:])[None], vae.config.patch_px))
        blocks = blocks.flatten(0, 3).unflatten(1, (FRAMES_PER_LATENT, -1))
        seen = token_masks(masks, SPATIAL_FACTOR // MASK_STRIDE, FRAMES_PER_LATENT)[1:].cpu()
        face, mouth = seen[:, 0].flatten() > 0.1, seen[:, 1].flatten() > 0.02
        odds = 1 + _FACE_ODDS * face + _MOUTH_ODDS * mouth
        stills.append(_some(blocks, odds, _STILLS_PER_CLIP, generator).mean(dim=1))
        odds = 1 + _FACE_ODDS * face + _MOVING_MOUTH_ODDS * mouth
        moving = _some(blocks, odds, _MOVEMENTS_PER_CLIP, generator)
        movements.append((moving - moving.mean(dim=1, keepdim=True)).flatten(1))
    return torch.cat(stills), torch.cat(movements)


def _some(blocks: Tensor, odds: Tensor, count: int, generator: torch.Generator) -> Tensor:
    rows = torch.multinomial(odds, min(count, len(odds)), generator=generator)
    return blocks[rows.to(blocks.device)]
