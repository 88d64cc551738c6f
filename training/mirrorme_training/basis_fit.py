"""The linear path of a fresh VAE in closed form: principal components of pictures."""

from __future__ import annotations

import torch
from mirrorme_model.vae import VideoVae
from mirrorme_model.vae_config import FRAMES_PER_LATENT, SPATIAL_FACTOR
from mirrorme_model.vae_layers import Conv
from mirrorme_model.video_encoder import patchify
from torch import Tensor

from mirrorme_training.clip_bank import ClipBank
from mirrorme_training.clip_casting import to_video
from mirrorme_training.clip_window import MASK_STRIDE, token_masks

_BLOCKS_PER_CLIP = 40
_MAX_BLOCKS = 14_000
_SPARE_COMPONENTS = 72
_POWER_ITERATIONS = 4
_FACE_ODDS = 2.0
_MOUTH_ODDS = 6.0
"""How much more often blocks of pixels are drawn there: faces are little of a picture."""


@torch.no_grad()
def fit_basis(vae: VideoVae, bank: ClipBank, seed: int) -> None:
    """Fits the basis to the bank's clips, and silences the networks beside it.

    The networks' last layers are set to zero, so training starts at the best linear VAE.
    """
    basis = vae.basis
    if basis is None:
        return
    generator = torch.Generator().manual_seed(seed)
    num_clips = min(len(bank), _MAX_BLOCKS // _BLOCKS_PER_CLIP)
    drawn = [_draw_blocks(vae, bank, slot, generator) for slot in range(num_clips)]
    blocks = torch.cat(drawn)
    basis.mean.copy_(blocks.mean(dim=0))
    blocks -= basis.mean
    channels = vae.config.latent_channels
    wanted = min(channels + _SPARE_COMPONENTS, len(blocks))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        _, sizes, directions = torch.svd_lowrank(blocks, wanted, niter=_POWER_ITERATIONS)
    found = min(channels, len(sizes))
    basis.weight[:found] = directions[:, :found].T * len(basis.mean) ** 0.5
    basis.log_gain[:found] = -(sizes[:found] / len(blocks) ** 0.5).clamp(min=1e-3).log()
    _silence(vae.decoder.conv_out, None)
    if vae.encoder is not None:
        _silence(vae.encoder.conv_out, channels)


def _silence(conv: Conv, count: int | None) -> None:
    """Sets the first output channels to zero; None: all."""
    conv.conv.weight[:count].zero_()
    if conv.conv.bias is not None:
        conv.conv.bias[:count].zero_()


def _draw_blocks(vae: VideoVae, bank: ClipBank, slot: int, generator: torch.Generator) -> Tensor:
    """Some blocks `[n, pixels]` of 8 frames of a clip."""
    frames, masks = bank["frames"][slot], bank["masks"][slot]
    stop = len(frames)
    latent = int(torch.randint((stop - 1) // FRAMES_PER_LATENT, (1,), generator=generator))
    some = slice(1 + latent * FRAMES_PER_LATENT, 1 + (latent + 1) * FRAMES_PER_LATENT)
    assert vae.basis is not None
    blocks = vae.basis.blocks(patchify(to_video(frames[some])[None], vae.config.patch_px))[0, 0]
    seen = torch.cat([masks[some][:1], masks[some]])
    face, mouth = token_masks(seen, SPATIAL_FACTOR // MASK_STRIDE, FRAMES_PER_LATENT)[1].cpu()
    odds = (1 + _FACE_ODDS * (face > 0.1) + _MOUTH_ODDS * (mouth > 0.02)).flatten()
    count = min(_BLOCKS_PER_CLIP, len(odds))
    rows = torch.multinomial(odds, count, generator=generator)
    return blocks.flatten(0, 1)[rows.to(blocks.device)]
