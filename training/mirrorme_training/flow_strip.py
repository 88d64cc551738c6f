"""Pictures of streams that the averaged model makes, above them the truth."""

from __future__ import annotations

import torch
from mirrorme_model.avatar import AvatarModel
from torch import Tensor, nn

from mirrorme_training.clip_bank import ClipBank
from mirrorme_training.clip_casting import to_pixels
from mirrorme_training.clip_window import window_tokens
from mirrorme_training.flow_batch import Dropped, take_chunks
from mirrorme_training.rollout import roll_out
from mirrorme_training.stage import Picture, spread_indices, tile

_NUM_CLIPS = 3
_NUM_CHUNKS = 6
_NUM_SHOWN = 12


@torch.no_grad()
def flow_strip(
    model: AvatarModel, bank: ClipBank, sigmas: tuple[float, ...] | None, *, hands: bool
) -> Picture:
    """Streams from a still portrait, without controls.

    Args:
        sigmas: noise levels; None: the config's.
        hands: True: keypoints are given.
    """
    num_clips = min(_NUM_CLIPS, len(bank))
    device = bank["latents"].device
    num_latents, length = bank["latents"].shape[1], model.config.chunk.num_latents
    rows = torch.arange(num_clips, device=device)
    identity = bank["pictures"][:num_clips, 0].float()
    motion = identity[:, None].expand(-1, model.config.chunk.motion_latents, -1, -1, -1)
    tokens = window_tokens(model.audio, bank["pcm"][:num_clips].float(), num_latents)
    num_chunks = min(_NUM_CHUNKS, (num_latents - 1) // length)
    given = Dropped(
        audio=torch.zeros(num_clips, dtype=torch.bool, device=device),
        hands=torch.full((num_clips,), float(hands), device=device),
        control_weights=torch.zeros(num_clips, bank["controls"].shape[2], device=device),
    )
    chunks = []
    truth: list[Tensor] = []
    for start in range(1, 1 + num_chunks * length, length):
        starts = torch.full((num_clips,), start, device=device)
        batch = take_chunks(bank, rows, rows, starts, length, identity, motion)
        chunks.append(batch.conditions(tokens[:, start : start + length], given))
        truth.append(batch.target)
    shape = (num_clips, num_chunks, *truth[0].shape[1:])
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(device)
    pictured = roll_out(model.denoiser, chunks, noise, sigmas).split(length, dim=1)
    told = zip(pictured, chunks, strict=True)
    made = torch.cat([model.denoiser.with_cues(x, conditions) for x, conditions in told], dim=1)
    pictures: list[Tensor] = []
    for shown, stream in zip(torch.cat(truth, dim=1), made, strict=True):
        pictures += [_frames(model, bank, x, len(pictures) // 2) for x in (shown, stream)]
    return tile(pictures)


def _frames(model: AvatarModel, bank: ClipBank, latents: Tensor, slot: int) -> Tensor:
    """`[F, C, h, w]` after the portrait to some frames `[n, H, W, 3]` uint8."""
    portrait = bank["pictures"][slot, :1].float()
    # Truth lacks what the decoder is told, as portraits do: zeros.
    told = latents.shape[1] - portrait.shape[1]
    portrait = nn.functional.pad(portrait, (0, 0, 0, 0, 0, told))
    clip = torch.cat([portrait, latents]).transpose(0, 1)[None]
    frames = to_pixels(model.vae.decode(clip))[0]
    return frames[spread_indices(len(frames), _NUM_SHOWN)]
