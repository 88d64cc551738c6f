"""Who says which clip: everything random about a training clip, drawn from its number."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
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
from mirrorme_training.paint_manner import PaintManner, draw_manner
from mirrorme_training.portrait_identity import Identity
from mirrorme_training.portrait_pose import Pose
from mirrorme_training.portrait_renderer import RenderedFrames, render
from mirrorme_training.portrait_sampler import sample_identity
from mirrorme_training.recipe import BankConfig, RecipeError
from mirrorme_training.speech import SAMPLE_RATE_HZ

_RENDER_FRAMES = 64
_GPU_RENDER_FRAMES = 1024
_PAINTED_TOGETHER = 16
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
    bare: float
    """0 to 1: portraits show no hands if under the bank's share."""


class PaintedOnDemand:
    """Procedural clips: speech and movement from a store, a new person for each, painted here.

    On a GPU several clips are painted at a time, those that are asked for next.
    """

    def __init__(self, store: ClipStore, stride: int = 1) -> None:
        """`stride`: from a clip's number to that of the next one asked for."""
        self._store = store
        self._stride = stride
        self._together = 1 if store.device.type == "cpu" else _PAINTED_TOGETHER
        self._asked: tuple[BankConfig, int, int] | None = None
        self._ahead: dict[int, ClipWindow] = {}

    @property
    def device(self) -> torch.device:
        """See `ClipSource`."""
        return self._store.device

    @property
    def num_clips(self) -> int:
        """See `ClipSource`."""
        return self._store.num_clips

    @property
    def is_endless(self) -> bool:
        """See `ClipSource`."""
        return True

    @property
    def data_hash(self) -> str:
        """See `ClipSource`."""
        return self._store.data_hash

    def window(self, number: int, bank: BankConfig, size_px: int, seed: int) -> ClipWindow:
        """See `ClipSource`."""
        asked = (bank, size_px, seed)
        if asked != self._asked:
            self._asked, self._ahead = asked, {}
        if number not in self._ahead:
            numbers = [number + i * self._stride for i in range(self._together)]
            manners = [
                draw_manner(n, bank, size_px, seed, speaks=self.speaks(n, bank, seed))
                for n in numbers
            ]
            self._ahead = dict(
                zip(numbers, self.painted(numbers, bank, manners, seed), strict=True)
            )
        return self._ahead.pop(number)

    def speaks(self, number: int, bank: BankConfig, seed: int) -> bool:
        """False: the clip of that number is silent throughout."""
        return self._store.speaks(cast(number, self._store, bank, seed).clip)

    def painted(
        self, numbers: Sequence[int], bank: BankConfig, manners: Sequence[PaintManner], seed: int
    ) -> list[ClipWindow]:
        """Windows painted in manners, all of one size."""
        store, takes = self._store, []
        for number, manner in zip(numbers, manners, strict=True):
            casting = cast(number, store, bank, seed)
            first = _first_latent(casting, store, bank)
            rows = slice(first * FRAMES_PER_LATENT, (first + 1 + bank.window_latents) * 8)
            pose = manner.calmed(store.pose(casting.clip, rows, hands=bank.hands))
            takes.append(_Take(casting, manner, first, rows, pose))
        bare = [t for t in takes if bank.hands and t.casting.bare < bank.bare]
        clips = [(t.casting, t.pose[_LEAD_FRAMES:], t.manner) for t in takes]
        portraits = [
            (t.casting, _without_hands(t.pose[_LEAD_FRAMES::FRAMES_PER_LATENT]), t.manner)
            for t in bare
        ]
        shown = paint(clips + portraits)
        shown, bare_shown = shown[: len(clips)], iter(shown[len(clips) :])
        return [
            self._window(take, painted, next(bare_shown) if take in bare else None, bank)
            for take, painted in zip(takes, shown, strict=True)
        ]

    def _window(
        self, take: _Take, shown: RenderedFrames, bare: RenderedFrames | None, bank: BankConfig
    ) -> ClipWindow:
        store, pose, clip = self._store, take.pose, take.casting.clip
        masks = torch.stack([shown.face_mask, shown.mouth_mask], dim=1).float()
        keypoints = shown.hand_keypoints * shown.hand_keypoints[..., 2:]
        mouth = shown.mouth_open_ratio
        portraits = shown.frames[::FRAMES_PER_LATENT] if bare is None else bare.frames
        return ClipWindow(
            frames=shown.frames,
            portraits=portraits,
            masks=nn.functional.avg_pool2d(masks, MASK_STRIDE).to(torch.uint8),
            pcm=_heard(store.audio(clip), take.first_latent, bank.window_latents),
            controls=pose.controls,
            keypoints=torch.cat([torch.zeros_like(keypoints[:_LEAD_FRAMES]), keypoints]),
            mouth=torch.cat([mouth[:1].expand(_LEAD_FRAMES), mouth]),
            visemes=store.visemes(clip)[take.rows],
        )


@dataclass(frozen=True, eq=False)
class _Take:
    casting: Casting
    manner: PaintManner
    first_latent: int
    rows: slice
    pose: Pose


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
        bare=float(random.random()),
    )


def paint(takes: Sequence[tuple[Casting, Pose, PaintManner]]) -> list[RenderedFrames]:
    """The persons of clips in poses, with the truth about them, on the poses' device."""
    if not takes:
        return []
    people: list[Identity] = []
    side_px = 0
    for casting, _, manner in takes:
        who = sample_identity([casting.identity_seed], close_up=casting.close_up)
        who, side_px = manner.cropped(who)
        people.append(who)
    poses = [pose for _, pose, _ in takes]
    counts = torch.tensor([len(pose) for pose in poses])
    who, pose = Identity.join(people), Pose.join(poses)
    owners = torch.arange(len(takes)).repeat_interleave(counts)
    who, owners = who.to(pose.device), owners.to(pose.device)
    at_once = _RENDER_FRAMES if pose.device.type == "cpu" else _GPU_RENDER_FRAMES
    parts = []
    for at in range(0, len(pose), at_once):
        some = slice(at, at + at_once)
        parts.append(render(who if len(takes) == 1 else who[owners[some]], pose[some], side_px))
    shown, start, clips = RenderedFrames.join(parts), 0, []
    for count in counts.tolist():
        clips.append(shown[start : start + count])
        start += count
    return clips


def _without_hands(pose: Pose) -> Pose:
    return dataclasses.replace(pose, hand_shown=torch.zeros_like(pose.hand_shown))


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
