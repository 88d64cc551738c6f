"""A painted clip seen otherwise: in other colours, and cut into chunks elsewhere."""

from __future__ import annotations

from dataclasses import fields, replace

import torch
from mirrorme_model.vae_config import FRAMES_PER_LATENT
from torch import Tensor

from mirrorme_training.clip_window import ClipWindow
from mirrorme_training.motion_noise import FRAME_RATE
from mirrorme_training.speech import SAMPLE_RATE_HZ

STEP_FRAMES = 3
"""Later starts are a multiple: three frames are a whole number of samples."""
_STEP_SAMPLES = SAMPLE_RATE_HZ * STEP_FRAMES // FRAME_RATE
_MIX = 0.12
"""Deviation of the colour matrix from none."""
_OFFSET = 12.0


def vary(window: ClipWindow, generator: torch.Generator) -> ClipWindow:
    """The window from 0, 3 or 6 frames later on, in colours of its own.

    Of the same shape; what would belong to its last latent is not there and says nothing.
    """
    step = int(torch.randint(FRAMES_PER_LATENT // STEP_FRAMES + 1, (1,), generator=generator))
    by_frame = (field.name for field in fields(window) if field.name != "pcm")
    later = {name: _later(getattr(window, name), STEP_FRAMES * step) for name in by_frame}
    later["frames"] = _recoloured(later["frames"], generator)
    return replace(window, pcm=_later(window.pcm, _STEP_SAMPLES * step), **later)


def _later(rows: Tensor, count: int) -> Tensor:
    filler = rows.new_zeros((count, *rows.shape[1:]))
    return torch.cat([rows[count:], filler])


def _recoloured(frames: Tensor, generator: torch.Generator) -> Tensor:
    """Each colour becomes a mix of all, around grey."""
    mix = torch.eye(3) + _MIX * torch.randn(3, 3, generator=generator) / 3**0.5
    mix = mix * (1 + _MIX * torch.randn(1, generator=generator))
    offset = 127.5 + _OFFSET * torch.randn(3, generator=generator)
    made = (frames.float() - 127.5) @ mix.T.to(frames.device) + offset.to(frames.device)
    return made.round().clamp(0, 255).to(torch.uint8)
