"""A clip seen otherwise: somebody of another shape, in other colours, mirrored, cut elsewhere.

People are learned by heart before the task is; one who was painted is shown as many.
"""

from __future__ import annotations

from dataclasses import fields, replace

import torch
from mirrorme_model.vae_config import FRAMES_PER_LATENT
from torch import Tensor

from mirrorme_training.clip_bend import Bend
from mirrorme_training.clip_window import ClipWindow
from mirrorme_training.motion_noise import FRAME_RATE
from mirrorme_training.portrait_pose import CONTROL_INDEX, CONTROLS
from mirrorme_training.speech import SAMPLE_RATE_HZ

STEP_FRAMES = 3
"""Later starts are a multiple: three frames are a whole number of samples."""
_STEP_SAMPLES = SAMPLE_RATE_HZ * STEP_FRAMES // FRAME_RATE
_MIX = 0.12
"""Deviation of the colour matrix from none."""
_OFFSET = 12.0
_TURNED_ROUND = ("head_yaw", "head_roll", "gaze_x")
"""Controls with another sign in a mirror."""


def vary(window: ClipWindow, generator: torch.Generator) -> ClipWindow:
    """The window from 0, 3 or 6 frames later on, of another shape, in colours of its own; half of
    the time mirrored. The mouth stays at its height.

    Of the same size; what would belong to its last latent is not there and says nothing.
    """
    step = int(torch.randint(FRAMES_PER_LATENT // STEP_FRAMES + 1, (1,), generator=generator))
    mirror = bool(torch.randint(2, (1,), generator=generator))
    made = _coloured(_bent(_later(window, step), generator), generator)
    return mirrored(made) if mirror else made


def mirrored(window: ClipWindow) -> ClipWindow:
    """As in a mirror: the person's left is their right."""
    keypoints = window.keypoints.flip(1).clone()
    keypoints[..., 0] = (1 - keypoints[..., 0]) * keypoints[..., 2]
    return replace(
        window,
        frames=window.frames.flip(2),
        portraits=window.portraits.flip(2),
        masks=window.masks.flip(3),
        keypoints=keypoints,
        controls=window.controls[:, _OTHER_SIDE] * window.controls.new_tensor(_SIGNS),
    )


def _other_side(control: str) -> str:
    for side, other in (("Left", "Right"), ("Right", "Left")):
        if control.endswith(side):
            return control.removesuffix(side) + other
    return control


_OTHER_SIDE = [CONTROL_INDEX[_other_side(name)] for name in CONTROLS]
_SIGNS = [-1.0 if name in _TURNED_ROUND else 1.0 for name in CONTROLS]


def _later(window: ClipWindow, step: int) -> ClipWindow:
    apart = ("pcm", "portraits")
    by_frame = (field.name for field in fields(window) if field.name not in apart)
    later = {name: _cut(getattr(window, name), STEP_FRAMES * step) for name in by_frame}
    return replace(window, pcm=_cut(window.pcm, _STEP_SAMPLES * step), **later)


def _cut(rows: Tensor, count: int) -> Tensor:
    filler = rows.new_zeros((count, *rows.shape[1:]))
    return torch.cat([rows[count:], filler])


def _bent(window: ClipWindow, generator: torch.Generator) -> ClipWindow:
    bend = Bend(_middle_of_mouth(window.masks), generator)
    keypoints = window.keypoints.clone()
    keypoints[..., :2] = bend.points(keypoints[..., :2]) * keypoints[..., 2:]
    return replace(
        window,
        frames=bend.pictures(window.frames),
        portraits=bend.pictures(window.portraits),
        masks=bend.pictures(window.masks.movedim(1, -1)).movedim(-1, 1),
        keypoints=keypoints,
    )


def _middle_of_mouth(masks: Tensor) -> Tensor:
    """`[T, 2, h, w]` to `[2]`, x and y in 0 to 1; the picture's middle where none is seen."""
    seen = masks[:, 1].float().sum(dim=0)
    total = seen.sum()
    places = [
        (torch.arange(size, device=masks.device) + 0.5) / size for size in reversed(seen.shape)
    ]
    if not total:
        return torch.full((2,), 0.5, device=masks.device)
    return torch.stack([seen.sum(0) @ places[0], seen.sum(1) @ places[1]]) / total


def _coloured(window: ClipWindow, generator: torch.Generator) -> ClipWindow:
    colours = _Colours(generator)
    return replace(window, frames=colours.of(window.frames), portraits=colours.of(window.portraits))


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
