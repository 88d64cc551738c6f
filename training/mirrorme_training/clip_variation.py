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
    apart = ("pcm", "portraits")
    by_frame = (field.name for field in fields(window) if field.name not in apart)
    later = {name: _later(getattr(window, name), STEP_FRAMES * step) for name in by_frame}
    colours = _Colours(generator)
    later["frames"] = colours.of(later["frames"])
    return replace(
        window,
        pcm=_later(window.pcm, _STEP_SAMPLES * step),
        portraits=colours.of(window.portraits),
        **later,
    )


def _later(rows: Tensor, count: int) -> Tensor:
    filler = rows.new_zeros((count, *rows.shape[1:]))
    return torch.cat([rows[count:], filler])


class _Colours:
    """Each colour becomes a mix of all, around grey."""

    def __init__(self, generator: torch.Generator) -> None:
        mix = torch.eye(3) + _MIX * torch.randn(3, 3, generator=generator) / 3**0.5
        self._mix = mix * (1 + _MIX * torch.randn(1, generator=generator))
        self._offset = 127.5 + _OFFSET * torch.randn(3, generator=generator)

    def of(self, frames: Tensor) -> Tensor:
        """`[..., 3]` uint8 in these colours."""
        mix, offset = self._mix.to(frames.device), self._offset.to(frames.device)
        made = (frames.float() - 127.5) @ mix.T + offset
        return made.round().clamp(0, 255).to(torch.uint8)
