"""Who says which clip: everything random about a training clip, drawn from its number."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mirrorme_training.clip_store import ClipStore
from mirrorme_training.portrait_renderer import RenderedFrames, render
from mirrorme_training.portrait_sampler import sample_identity
from mirrorme_training.recipe import BankConfig

FIRST_TRAINING_SEED = 10_000
"""Identities below are kept for examples and evaluation."""
_RENDER_FRAMES = 64


@dataclass(frozen=True)
class Casting:
    """A clip before it is painted."""

    clip: int
    """In the store."""
    identity_seed: int
    close_up: bool
    start: float
    """0 to 1: for those who cut a part of the clip."""


def cast(number: int, store: ClipStore, config: BankConfig, seed: int) -> Casting:
    """Every person is new; speech comes round again in another order."""
    random = np.random.default_rng([seed, number])
    lap, place = divmod(number, store.num_clips)
    order = np.random.default_rng([seed, lap, 1]).permutation(store.num_clips)
    return Casting(
        clip=int(order[place]),
        identity_seed=FIRST_TRAINING_SEED + int(random.integers(2**40)),
        close_up=bool(random.random() < config.close_up),
        start=float(random.random()),
    )


def paint(
    casting: Casting, store: ClipStore, config: BankConfig, size_px: int, frames: slice
) -> RenderedFrames:
    """Some frames of a clip, with the truth about them, on the store's device."""
    pose = store.pose(casting.clip, frames, hands=config.hands)
    who = sample_identity([casting.identity_seed], close_up=casting.close_up).to(store.device)
    parts = [
        render(who, pose[slice(at, at + _RENDER_FRAMES)], size_px)
        for at in range(0, len(pose), _RENDER_FRAMES)
    ]
    return RenderedFrames.join(parts)


def to_video(frames: Tensor) -> Tensor:
    """Pixels `[..., T, H, W, 3]` uint8 to `[..., 3, T, H, W]` in -1 to 1, as the VAE takes them."""
    return frames.movedim(-1, -4).to(torch.float32) / 127.5 - 1


def to_pixels(video: Tensor) -> Tensor:
    """The inverse of `to_video`, rounded and cut to 0 to 255."""
    return ((video.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).movedim(-4, -1)
