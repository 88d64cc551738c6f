"""A stretch of a clip with the truth about it: what every stage trains on, whatever it is from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from mirrorme_model.audio_encoder import AudioEncoder
from torch import Tensor

from mirrorme_training.recipe import BankConfig

LEAD_LATENTS = 6
"""Heard before a window: two seconds, more than audio encoders look back."""
TAIL_LATENTS = 2
"""Heard after a window: more than audio encoders look ahead. With windows of 3n + 1 latents the
whole is a multiple of 3, the longest chunk."""
START_LATENTS = 3
"""Windows start at a multiple: three latent frames are a whole number of samples."""
UNKNOWN_VISEME = -1
"""Of recordings: nobody has said which sounds are spoken."""
MASK_STRIDE = 4
"""Pixels of a frame to one of its masks."""


@dataclass(frozen=True)
class ClipWindow:
    """K = 1 + k latents: the first stands for one frame, each other one for 8.

    What belongs to frames has 8 K rows; before the first frame shown, 7 rows say nothing.
    """

    frames: Tensor
    """[1 + 8k, H, W, 3] uint8"""
    portraits: Tensor
    """[K, H, W, 3] uint8 the person at each latent's last frame, as a portrait may show them"""
    masks: Tensor
    """[1 + 8k, 2, H / 4, W / 4] uint8 face and mouth"""
    pcm: Tensor
    """[N] float32 in -1 to 1, of `heard_latents(k)`; zeros where the clip has no more"""
    controls: Tensor
    """[8 K, controls] in the order of `portrait_pose.CONTROLS`; NaN where nobody knows"""
    keypoints: Tensor
    """[8 K, 2, 21, 3] as the denoiser takes them"""
    mouth: Tensor
    """[8 K] opening ratio"""
    visemes: Tensor
    """[8 K] int64 indices into `speech_shards.VISEME_NAMES`, or `UNKNOWN_VISEME`"""


class ClipSource(Protocol):
    """Clips without end, each a function of its number."""

    @property
    def device(self) -> torch.device:
        """Where the windows lie."""
        ...

    @property
    def num_clips(self) -> int:
        """Different ones, as they were recorded."""
        ...

    @property
    def is_endless(self) -> bool:
        """True: every number is of somebody else. Else numbers from `num_clips` on come again."""
        ...

    @property
    def data_hash(self) -> str:
        """SHA-256 that names the data."""
        ...

    def window(self, number: int, bank: BankConfig, size_px: int, seed: int) -> ClipWindow:
        """The window of a number.

        Raises:
            RecipeError: the data does not hold what `bank` asks for.
        """
        ...


def heard_latents(window_latents: int) -> int:
    """Latents of audio in a window of 1 + `window_latents`."""
    return LEAD_LATENTS + 1 + window_latents + TAIL_LATENTS


def window_tokens(audio: AudioEncoder, pcm: Tensor, num_latents: int) -> Tensor:
    """Audio tokens `[B, num_latents, tokens, C]` of windows, heard with what was before and after.

    `pcm` is `[B, N]` of `heard_latents(num_latents - 1)`.
    """
    tokens = audio.encode_clip(pcm, heard_latents(num_latents - 1))
    return tokens[:, LEAD_LATENTS : LEAD_LATENTS + num_latents]


def cut_tokens(
    frames: Tensor, row: int, column: int, tokens: tuple[int, int], stride: int, axis: int
) -> Tensor:
    """Rows and columns of some tokens, each `stride` long, out of frames whose rows are `axis`."""
    high = frames.narrow(axis, row * stride, tokens[0] * stride)
    return high.narrow(axis + 1, column * stride, tokens[1] * stride)


def token_masks(masks: Tensor, stride_px: int, frames: int) -> Tensor:
    """`[1 + 8k, 2, h, w]` uint8 to `[1 + k, 2, h / s, w / s]`: the most of a latent's frames."""
    pooled = torch.nn.functional.avg_pool2d(masks.float() / 255, stride_px)
    later = pooled[1:].unflatten(0, (-1, frames)).amax(dim=1)
    return torch.cat([pooled[:1], later])
