"""Batches of chunks with their conditions, drawn from a bank of latent clips."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from mirrorme_model.conditions import Conditions
from mirrorme_model.config import ModelConfig
from mirrorme_model.vae_config import FRAMES_PER_LATENT
from torch import Tensor

from mirrorme_training.clip_bank import ClipBank, Record
from mirrorme_training.portrait_pose import SPEECH_CONTROLS
from mirrorme_training.recipe import DropoutConfig, FlowStageConfig
from mirrorme_training.speech_shards import VISEME_NAMES

_MIN_AWAY_LATENTS = 2
"""The portrait is of another moment than the chunk by at least so much."""


@dataclass(frozen=True)
class ChunkBatch:
    """B chunks: where they are and what they are made from, their speech still to be encoded."""

    clips: Tensor
    """[B / S] slots of the bank; S chunks are of each."""
    rows: Tensor
    """[B] rows of `clips`."""
    starts: Tensor
    """[B] first latent of each chunk."""
    target: Tensor
    """[B, F, C, h, w]"""
    identity: Tensor
    """[B, C, h, w]"""
    motion: Tensor
    """[B, M, C, h, w] as recorded; the still portrait where a session starts."""
    masks: Tensor
    """[B, F, 2, h, w] face and mouth."""
    keypoints: Tensor
    """[B, 8 F, 2, 21, 3]"""
    controls: Tensor
    """[B, 8 F, controls]; NaN where nobody knows"""

    def conditions(
        self, tokens: Tensor, dropped: Dropped, motion: Tensor | None = None
    ) -> Conditions:
        """With the chunks' own audio tokens `[B, F, K, C]`; `motion` None: as recorded."""
        return Conditions(
            identity=self.identity,
            motion=self.motion if motion is None else motion,
            audio_tokens=tokens,
            expression=torch.ones(len(self.rows), device=self.target.device),
            hand_keypoints=self.keypoints * dropped.hands[:, None, None, None, None],
            controls=self.controls.nan_to_num(),
            control_weights=dropped.control_weights[:, None] * ~self.controls.isnan(),
        )


@dataclass(frozen=True)
class Dropped:
    """What is given of the conditions."""

    audio: Tensor
    """[B] bool: True where speech is not given."""
    hands: Tensor
    """[B] 1.0 where keypoints are given."""
    control_weights: Tensor
    """[B, controls] 1.0 where given."""


def draw_chunks(
    bank: ClipBank, model: ModelConfig, config: FlowStageConfig, generator: torch.Generator,
    num_ahead: int = 0,
) -> ChunkBatch:  # fmt: skip
    """Draws chunks; `num_ahead` latents after each are in the clip too."""
    device = bank["latents"].device

    def integers(high: int, *shape: int) -> Tensor:
        return torch.randint(high, shape, device=device, generator=generator)

    per_clip, num_motion = config.chunks_per_clip, model.chunk.motion_latents
    num_latents, length = bank["latents"].shape[1], model.chunk.num_latents
    clips = integers(len(bank), config.batch)
    rows = torch.arange(config.batch, device=device).repeat_interleave(per_clip)
    first = num_motion + 1
    last = num_latents - length - num_ahead
    if last < first:
        raise ValueError(f"clips of {num_latents} latents are too short for this model and stage")
    starts = first + integers(last - first + 1, len(rows))
    slots = clips[rows]
    away = _MIN_AWAY_LATENTS + integers(max(1, num_latents - 2 * _MIN_AWAY_LATENTS), len(rows))
    fresh = torch.rand(len(rows), device=device, generator=generator) < config.session_start
    moments = torch.where(fresh, starts - 1, (starts + away) % num_latents)
    identity = bank["pictures"][slots, moments].float()
    before = starts[:, None] + torch.arange(-num_motion, 0, device=device)
    motion = bank["latents"][slots[:, None], before].float()
    motion = torch.where(fresh[:, None, None, None, None], identity[:, None], motion)
    return take_chunks(bank, clips, rows, starts, length, identity, motion)


def take_chunks(
    bank: ClipBank | Record, clips: Tensor, rows: Tensor, starts: Tensor, length: int,
    identity: Tensor, motion: Tensor,
) -> ChunkBatch:  # fmt: skip
    """The chunks that start at `starts`."""
    slots = clips[rows][:, None]
    latents = starts[:, None] + torch.arange(length, device=starts.device)
    frames = starts[:, None] * FRAMES_PER_LATENT + torch.arange(
        length * FRAMES_PER_LATENT, device=starts.device
    )
    return ChunkBatch(
        clips=clips,
        rows=rows,
        starts=starts,
        target=bank["latents"][slots, latents].float(),
        identity=identity,
        motion=motion,
        masks=bank["masks"][slots, latents].float(),
        keypoints=bank["keypoints"][slots, frames].float(),
        controls=bank["controls"][slots, frames].float(),
    )


def draw_dropped(
    model: ModelConfig, config: DropoutConfig, batch: int, generator: torch.Generator,
    moved: Tensor | None = None,
) -> Dropped:  # fmt: skip
    """Draws what is given. Of the controls, groups come and go together, and single ones in them:
    head, gaze, mouth and the rest, as users give them. What `moved` `[B, controls]` is given."""
    device = generator.device

    def unit(*shape: int) -> Tensor:
        return torch.rand(*shape, device=device, generator=generator)

    groups = _groups(_names(model), device)
    by_group = (unit(batch, _NUM_GROUPS) < 0.5)[:, groups]
    single = unit(batch, len(groups)) < 0.8
    anything = unit(batch, 1) >= config.controls
    given = by_group & single & anything
    if moved is not None:
        given = given | moved
    return Dropped(
        audio=unit(batch) < config.audio,
        hands=(unit(batch) >= config.hands).float(),
        control_weights=given.float(),
    )


def moves(bank: ClipBank, model: ModelConfig, first: ChunkBatch) -> Tensor:
    """`[B, controls]`: what moves in the clips of the chunks and speech does not tell."""
    slots = first.clips[first.rows]
    return moved_alone(bank["controls"][slots], bank["visemes"][slots], model)


def moved_alone(controls: Tensor, visemes: Tensor, model: ModelConfig) -> Tensor:
    """Which of the model's controls `[B, T, controls]` move without being told by speech, whose
    visemes are `[B, T]`: `[B, controls]`."""
    controls = controls.float()
    moving = controls.amax(dim=1) - controls.amin(dim=1) > _AT_REST
    silent = (visemes == _SILENCE).all(dim=1)
    return moving & (_free(_names(model), moving.device) | silent[:, None])


def _names(model: ModelConfig) -> tuple[str, ...]:
    return tuple(control.name for control in model.controls.controls)


# Kept, as sending them to a GPU waits for it.
@functools.lru_cache(maxsize=8)
def _free(names: tuple[str, ...], device: torch.device) -> Tensor:
    """`[controls]` bool: what speech does not tell."""
    return torch.tensor([name not in SPEECH_CONTROLS for name in names], device=device)


@functools.lru_cache(maxsize=8)
def _groups(names: tuple[str, ...], device: torch.device) -> Tensor:
    """`[controls]`: those of a group come and go together."""
    return torch.tensor([_group(name) for name in names], device=device)


def chunk_tokens(tokens: Tensor, batch: ChunkBatch) -> Tensor:
    """Tokens of whole clips `[B / S, K, tokens, C]` to those of the chunks, `[B, F, tokens, C]`."""
    latents = batch.starts[:, None] + torch.arange(batch.target.shape[1], device=tokens.device)
    return tokens[batch.rows[:, None], latents]


def drop_audio(tokens: Tensor, null: Tensor, dropped: Tensor) -> Tensor:
    """`null` `[K, C]` in place of the tokens `[B, F, K, C]` where `dropped` `[B]`."""
    return torch.where(dropped[:, None, None, None], null.to(tokens.dtype), tokens)


_NUM_GROUPS = 5
_AT_REST = 0.02
"""As far as a control may go and count as not moved."""
_SILENCE = VISEME_NAMES.index("sil")


def _group(control: str) -> int:
    if control.startswith("head_"):
        return 0
    if control.startswith("gaze_"):
        return 1
    if control.startswith(("jaw", "mouth")):
        return 2
    return 3 if control.startswith("eyeBlink") else 4
