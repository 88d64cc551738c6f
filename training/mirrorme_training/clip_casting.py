"""Who says which clip: everything random about a training clip, drawn from its number."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from mirrorme_model.vae_config import FRAMES_PER_LATENT
from torch import Tensor, nn

from mirrorme_training.clip_generator import FIRST_TRAINING_SEED
from mirrorme_training.clip_store import ClipStore
from mirrorme_training.clip_window import (
    LEAD_LATENTS,
    MASK_STRIDE,
    START_LATENTS,
    ClipWindow,
    heard_latents,
)
from mirrorme_training.portrait_renderer import RenderedFrames, render
from mirrorme_training.portrait_sampler import sample_identity
from mirrorme_training.recipe import BankConfig, RecipeError
from mirrorme_training.speech import SAMPLE_RATE_HZ

_RENDER_FRAMES = 64
_LEAD_FRAMES = FRAMES_PER_LATENT - 1
_LATENTS_PER_S = 3


@dataclass(frozen=True)
class Casting:
    """A clip before it is painted."""

    clip: int
    """In the store."""
    identity_seed: int
    close_up: bool
    start: float
    """0 to 1: where the window is cut."""


class PaintedOnDemand:
    """Procedural clips: speech and movement from a store, a new person for each, painted here."""

    def __init__(self, store: ClipStore) -> None:
        self._store = store

    @property
    def device(self) -> torch.device:
        """See `ClipSource`."""
        return self._store.device

    @property
    def num_clips(self) -> int:
        """See `ClipSource`."""
        return self._store.num_clips

    @property
    def data_hash(self) -> str:
        """See `ClipSource`."""
        return self._store.data_hash

    def window(self, number: int, bank: BankConfig, size_px: int, seed: int) -> ClipWindow:
        """See `ClipSource`."""
        store = self._store
        casting = cast(number, store, bank, seed)
        first = _first_latent(casting, store, bank)
        rows = slice(first * FRAMES_PER_LATENT, (first + 1 + bank.window_latents) * 8)
        shown = paint(casting, store, bank, size_px, slice(rows.start + _LEAD_FRAMES, rows.stop))
        masks = torch.stack([shown.face_mask, shown.mouth_mask], dim=1).float()
        keypoints = shown.hand_keypoints * shown.hand_keypoints[..., 2:]
        return ClipWindow(
            frames=shown.frames,
            masks=nn.functional.avg_pool2d(masks, MASK_STRIDE).to(torch.uint8),
            pcm=_heard(store.audio(casting.clip), first, bank.window_latents),
            controls=store.pose(casting.clip, rows, hands=bank.hands).controls,
            keypoints=torch.cat([torch.zeros_like(keypoints[:_LEAD_FRAMES]), keypoints]),
            mouth=torch.cat(
                [shown.mouth_open_ratio[:1].expand(_LEAD_FRAMES), shown.mouth_open_ratio]
            ),
            visemes=store.visemes(casting.clip)[rows],
        )


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


def _first_latent(casting: Casting, store: ClipStore, bank: BankConfig) -> int:
    spare = store.num_frames // FRAMES_PER_LATENT - 1 - bank.window_latents
    if spare < 0:
        raise RecipeError(
            f"bank.window_latents is {bank.window_latents}: want at most "
            f"{store.num_frames // FRAMES_PER_LATENT - 1} with clips of {store.num_frames} frames"
        )
    return START_LATENTS * int(casting.start * (spare // START_LATENTS + 1))


def _heard(audio: Tensor, first_latent: int, window_latents: int) -> Tensor:
    """The window's samples with those before and after it; silence outside of the clip."""
    start = (first_latent - LEAD_LATENTS) * SAMPLE_RATE_HZ // _LATENTS_PER_S
    stop = start + heard_latents(window_latents) * SAMPLE_RATE_HZ // _LATENTS_PER_S
    inside = audio[max(0, start) : stop]
    return nn.functional.pad(inside, (max(0, -start), max(0, stop - len(audio))))
