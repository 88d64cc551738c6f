"""Who says which clip: everything random about a training clip, drawn from its number."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import torch
from mirrorme_model.vae_config import FRAMES_PER_LATENT, SPATIAL_FACTOR
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
from mirrorme_training.portrait_canvas import Canvas
from mirrorme_training.portrait_identity import Identity
from mirrorme_training.portrait_pose import CONTROLS, SPEECH_CONTROLS, Pose, with_controls
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


@dataclass(frozen=True)
class PaintManner:
    """What is painted of a clip."""

    size_px: int
    """Of the whole picture."""
    crop_px: int | None = None
    """As in `PaintConfig`."""
    liveliness: float = 1.0
    """As in `PaintConfig`."""

    def calmed(self, pose: Pose) -> Pose:
        """The pose with less movement than speech makes. A smile stays, but does not change."""
        if self.liveliness == 1:
            return pose
        free = [name for name in CONTROLS if name not in SPEECH_CONTROLS]
        less = {name: self.liveliness * pose.control(name) for name in free}
        for name in ("mouthSmileLeft", "mouthSmileRight"):
            less[name] = less[name] + (1 - self.liveliness) * pose.control(name).mean()
        return dataclasses.replace(
            with_controls(pose, **less),
            breath=self.liveliness * pose.breath,
            shoulders=self.liveliness * pose.shoulders,
            sway=self.liveliness * pose.sway,
        )

    def cropped(self, who: Identity) -> tuple[Identity, int]:
        """The person as seen through the part that is painted, and its side in pixels."""
        if self.crop_px is None:
            return who, self.size_px
        framing = who.framing
        canvas = Canvas(framing, 1, self.size_px)
        mouth = torch.stack([torch.zeros_like(framing.center_x), who.mouth.y.flatten()], dim=-1)
        corner = (canvas.to_pixels(mouth) - self.crop_px / 2)[0] / SPATIAL_FACTOR
        most = (self.size_px - self.crop_px) // SPATIAL_FACTOR
        corner = corner.round().clamp(0, most) * SPATIAL_FACTOR
        share = self.crop_px / self.size_px
        pixel = framing.view_height / self.size_px
        view = framing.view_height * share
        shift = (corner + self.crop_px / 2 - self.size_px / 2) * pixel
        closer = dataclasses.replace(
            framing,
            view_height=view,
            center_x=framing.center_x + shift[0],
            center_y=framing.center_y + shift[1],
        )
        return dataclasses.replace(who, framing=closer), self.crop_px


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
        return self.painted(number, bank, PaintManner(size_px), seed)

    def painted(self, number: int, bank: BankConfig, manner: PaintManner, seed: int) -> ClipWindow:
        """As `window`, painted in a manner."""
        store = self._store
        casting = cast(number, store, bank, seed)
        first = _first_latent(casting, store, bank)
        rows = slice(first * FRAMES_PER_LATENT, (first + 1 + bank.window_latents) * 8)
        pose = manner.calmed(store.pose(casting.clip, rows, hands=bank.hands))
        shown = paint(casting, pose[_LEAD_FRAMES:], manner)
        masks = torch.stack([shown.face_mask, shown.mouth_mask], dim=1).float()
        keypoints = shown.hand_keypoints * shown.hand_keypoints[..., 2:]
        return ClipWindow(
            frames=shown.frames,
            masks=nn.functional.avg_pool2d(masks, MASK_STRIDE).to(torch.uint8),
            pcm=_heard(store.audio(casting.clip), first, bank.window_latents),
            controls=pose.controls,
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


def paint(casting: Casting, pose: Pose, manner: PaintManner) -> RenderedFrames:
    """The person of a clip in poses, with the truth about them, on the poses' device."""
    who = sample_identity([casting.identity_seed], close_up=casting.close_up).to(pose.device)
    who, side_px = manner.cropped(who)
    parts = [
        render(who, pose[slice(at, at + _RENDER_FRAMES)], side_px)
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
