"""Stages 1 to 3: rectified flow on chunks of latents, the audio encoder trained along.

The progressive order (close-up faces, half bodies with the face weighted, hands) is in the recipe;
the code is one. Loss: |v - (noise - data)|^2 at x_t = (1 - t) data + t noise (Liu et al., 2022).
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from mirrorme_model.anchor import Anchor
from mirrorme_model.avatar import AvatarModel
from mirrorme_model.conditions import Conditions
from mirrorme_model.denoiser import Prefill
from mirrorme_model.lora import lora_parameters
from mirrorme_model.transformer import GATES
from torch import Tensor, nn

from mirrorme_training.anchor_fit import fit_anchor
from mirrorme_training.channel_weights import channel_sensitivity
from mirrorme_training.clip_bank import ClipBank
from mirrorme_training.clip_window import ClipSource, window_tokens
from mirrorme_training.flow_batch import (
    ChunkBatch,
    Dropped,
    chunk_tokens,
    draw_chunks,
    draw_dropped,
    drop_audio,
    moves,
    take_chunks,
)
from mirrorme_training.flow_strip import flow_strip
from mirrorme_training.latent_clips import MOUTH_CONTROLS, LatentClips
from mirrorme_training.parts import WHOLE, Parts
from mirrorme_training.recipe import FlowStageConfig, RecipeError
from mirrorme_training.recompute import recompute_blocks
from mirrorme_training.rollout import even_sigmas, roll_out
from mirrorme_training.speech_batch_augment import augment_batch
from mirrorme_training.speech_head import SpeechHead, mouth_shapes
from mirrorme_training.stage import Picture, averaged_copy

_ANCHOR_CHUNKS = 1024
_MEASURED_CLIPS = 8
_FIRST_HELD_OUT = 1 << 40
"""Of clips that training does not reach."""


class FlowStage:
    """See `Stage`."""

    def __init__(
        self, model: AvatarModel, config: FlowStageConfig, source: ClipSource, seed: int, *,
        autocast: bool, parts: Parts = WHOLE,
    ) -> None:  # fmt: skip
        """`config.batch` is of one part, `config.bank` of all."""
        self.model = model
        self._config, self._seed = config, seed
        model.requires_grad_(False)
        for module in (model.audio, model.denoiser):
            module.requires_grad_(True).train()
        if config.train != "all":
            model.denoiser.base.requires_grad_(False)
            model.audio.backbone.requires_grad_(False)
        if config.train == "lora":
            for parameter in lora_parameters(model.denoiser.base):
                parameter.requires_grad_(True)
        if config.hear_once:
            model.audio.requires_grad_(False)
            # What stands for no speech is the denoiser's to learn.
            model.audio.tokens.null.requires_grad_(True)
        if config.dropout.hands >= 1 and model.denoiser.hand_encoder is not None:
            # Else it would learn a constant before it has seen a hand.
            model.denoiser.hand_encoder.requires_grad_(False)
        frozen = [p for p in model.parameters() if not p.requires_grad]
        self.average = averaged_copy(model, frozen)
        if config.recompute:
            recompute_blocks(model.denoiser.base)
        make = LatentClips(
            self.average.vae, model.config, source, config.bank, seed, autocast=autocast,
            heard_by=self.average.audio if config.hear_once else None, num_parts=parts.count,
        )  # fmt: skip
        self.bank = ClipBank(config.bank, make, parts)
        # Of the process that logs alone.
        self._held_out = _keep_out(config, source, make) if 0 in parts.own else None
        names = [control.name for control in model.config.controls.controls]
        columns = [names.index(name) for name in MOUTH_CONTROLS if name in names]
        self._channel_weights = self._weigh_channels(make)
        self._columns = torch.tensor(columns, device=source.device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            head = SpeechHead(model.config.audio, len(columns) + 1).to(source.device)
        networks = nn.ModuleDict({"audio": model.audio, "denoiser": model.denoiser})
        self.trained = nn.ModuleDict({"model": networks, "head": head})
        self._head = head
        self.clips_per_step = config.batch * config.chunks_per_clip

    def _weigh_channels(self, make: LatentClips) -> Tensor:
        """`[C, 1, 1]`, 1 in the mean; the same wherever a run begins or goes on."""
        vae, power = self.average.vae, self._config.channel_power
        if not power:
            return torch.ones_like(vae.scale.std)[:, None, None]
        clips = [make(make.apart(index)) for index in range(_MEASURED_CLIPS)]
        latents = torch.stack([clip["latents"] for clip in clips]).float().transpose(1, 2)
        at, after = vae.config.context_latents, vae.config.lookahead_latents
        if latents.shape[2] < at + 1 + after:
            raise RecipeError(
                f"bank.window_latents is {latents.shape[2] - 1}: want at least {at + after} to "
                "measure channels (channel_power)"
            )
        masks = torch.stack([clip["masks"][at] for clip in clips]).float()
        weights = token_weights(masks[:, None], self._config)[:, 0, 0]
        window = latents[:, :, : at + 1 + after]
        seen = channel_sensitivity(vae, window, weights, self._seed) ** (power / 2)
        return (seen / seen.mean())[:, None, None]

    def compile(self) -> None:
        """See `Stage`."""
        denoiser = self.model.denoiser
        denoiser.velocity = torch.compile(denoiser.velocity)
        denoiser.prefill = torch.compile(denoiser.prefill)

    def advance(self, step: int) -> None:
        """See `Stage`."""
        self.bank.advance(step)
        anchor = self.model.denoiser.anchor
        if step == 0 and anchor is not None and not anchor.log_std.any():
            self._fit(anchor)

    def show(self, part: int) -> None:
        """See `Stage`."""
        self.bank.show(part)

    def loss(self, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """See `Stage`."""
        config, model = self._config, self.model
        length = model.config.chunk.num_latents
        depth = self.rollout_depth(step)
        first = draw_chunks(self.bank, model.config, config, generator, depth * length)
        tokens, speech_loss, numbers = self.hear(first, generator)
        starts = first.starts + depth * length
        moved = None
        if config.tell_movement:
            moved = moves(self.bank, model.config, first)
        dropped = draw_dropped(model.config, config.dropout, len(first.rows), generator, moved)
        motion = noised_motion(first.motion, config, generator)
        with torch.no_grad():
            motion = self.own_motion(first, depth, tokens, dropped, motion, generator)
        # Weights that autocast has cast without gradients must not be used with them.
        torch.clear_autocast_cache()
        batch = take_chunks(
            self.bank, first.clips, first.rows, starts, length, first.identity, motion
        )
        prefill = model.denoiser.prefill(conditions_of(model, batch, tokens, dropped))
        weights = token_weights(batch.masks, config)
        mouth = batch.masks[:, :, 1:]
        loss, at_mouth = tokens.new_zeros(()), tokens.new_zeros(())
        for _ in range(config.noises_per_chunk):
            errors = self._flow_errors(batch, prefill, generator)
            loss = loss + (errors * weights).mean() / weights.mean()
            at_mouth = at_mouth + (errors.detach() * mouth).sum() / mouth.sum().clamp(min=1e-6)
        loss = loss / config.noises_per_chunk
        numbers |= {"flow": loss.detach(), "flow_mouth": at_mouth / config.noises_per_chunk}
        return loss + config.speech_weight * speech_loss, numbers

    def _flow_errors(
        self, batch: ChunkBatch, prefill: Prefill, generator: torch.Generator
    ) -> Tensor:
        """Squared errors of the velocity at times of their own, `[B, F, 1, h, w]`."""
        noise = _normal_like(batch.target, generator)
        t = draw_times(len(batch.rows), self._config.time_shift, generator)
        # One time a chunk, repeated for its latent frames.
        times = t[:, None].expand(-1, batch.target.shape[1])
        mix = times[:, :, None, None, None]
        noisy = (1 - mix) * batch.target + mix * noise
        velocity = self.model.denoiser.velocity(noisy, times, prefill).float()
        errors = (velocity - (noise - batch.target)).square()
        return (errors * self._channel_weights).mean(dim=2, keepdim=True)

    @torch.no_grad()
    def _fit(self, anchor: Anchor) -> None:
        """Fits a fresh anchor; training starts at its guess, with blocks whose gates are open.

        Drawn as LTX-Video's, gates are near 0, and a few thousand steps do not open them.
        """
        few = dataclasses.replace(
            self._config, batch=_ANCHOR_CHUNKS // self._config.chunks_per_clip
        )
        generator = torch.Generator(self.bank["latents"].device).manual_seed(0)
        batch = draw_chunks(self.bank, self.model.config, few, generator)
        motion = noised_motion(batch.motion, few, generator)
        fit_anchor(anchor, batch.identity, motion, batch.target)
        nn.init.zeros_(self.model.denoiser.base.proj_out.weight)
        for block in self.model.denoiser.base.blocks:
            block.scale_shift_table[list(GATES)] += 1.0
        self.average.denoiser.load_state_dict(self.model.denoiser.state_dict())

    def kind(self, step: int) -> int:
        """See `Stage`."""
        return self.rollout_depth(step)

    def rollout_depth(self, step: int) -> int:
        """How many chunks are made before those that are trained; not drawn on the device, which
        need not be waited for."""
        random = np.random.default_rng([self._seed, step])
        return int(random.integers(self._config.rollout_chunks + 1))

    def own_motion(
        self, first: ChunkBatch, depth: int, tokens: Tensor, dropped: Dropped, motion: Tensor,
        generator: torch.Generator,
    ) -> Tensor:  # fmt: skip
        """What the model made of the `depth` chunks before, `[B, M, C, h, w]`."""
        if not depth:
            return motion
        length = first.target.shape[1]
        chunks: list[Conditions] = []
        for ahead in range(depth):
            starts = first.starts + ahead * length
            batch = take_chunks(
                self.bank, first.clips, first.rows, starts, length, first.identity, motion
            )
            chunks.append(conditions_of(self.model, batch, tokens, dropped))
        shape = (len(first.rows), depth, *first.target.shape[1:])
        noise = torch.randn(shape, device=motion.device, generator=generator)
        made = roll_out(self.model.denoiser, chunks, noise, None).float()
        return torch.cat([motion, made], dim=1)[:, -motion.shape[1] :]

    def hear(
        self, batch: ChunkBatch, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Audio tokens of the batch's windows `[B / S, K, tokens, C]`, the auxiliary loss on them,
        and numbers to log."""
        if self._config.hear_once:
            tokens = self.bank["tokens"][batch.clips].float()
            return tokens, tokens.new_zeros(()), {}
        tokens = self._encode_speech(batch, generator)
        loss, named_right = self._speech_loss(tokens, batch)
        return tokens, loss, {"speech": loss.detach(), "visemes_right": named_right}

    def _encode_speech(self, batch: ChunkBatch, generator: torch.Generator) -> Tensor:
        """Heard anew."""
        pcm = self.bank["pcm"][batch.clips].float()
        if self._config.augment:
            pcm = augment_batch(pcm, generator)
        return window_tokens(self.model.audio, pcm, self.bank["latents"].shape[1])

    def _speech_loss(self, tokens: Tensor, batch: ChunkBatch) -> tuple[Tensor, Tensor]:
        """Of the auxiliary head, and the share of visemes that it names right."""
        controls, opening = self.bank["controls"][batch.clips], self.bank["mouth"][batch.clips]
        shapes = mouth_shapes(controls, opening, self._columns)
        return self._head.loss(tokens, shapes, self.bank["visemes"][batch.clips])

    @torch.no_grad()
    def held_out(self) -> dict[str, Tensor]:
        """See `Stage`. The same chunks and noise every time."""
        if self._held_out is None:
            return {}
        device = self._held_out["latents"].device
        model, bank = self.model, self.bank
        self.model, self.bank = self.average, self._held_out
        try:
            _, numbers = self.loss(0, torch.Generator(device).manual_seed(0))
        finally:
            self.model, self.bank = model, bank
        return {f"held_out_{name}": value for name, value in numbers.items()}

    def strip(self) -> Picture:
        """See `Stage`."""
        steps = self._config.strip_steps
        sigmas = even_sigmas(steps) if steps else None
        given = self._config.dropout.hands < 1
        return flow_strip(self.average, self.bank, sigmas, hands=given)

    def finish(self) -> None:
        """See `Stage`: nothing to do."""


def _keep_out(config: FlowStageConfig, source: ClipSource, make: LatentClips) -> ClipBank | None:
    if not config.held_out_clips:
        return None
    if not source.is_endless:
        raise RecipeError("held_out_clips wants clips painted on demand: others come again")
    held = dataclasses.replace(config.bank, num_clips=config.held_out_clips, renew_every_steps=0)
    bank = ClipBank(held, lambda index: make(make.apart(_FIRST_HELD_OUT + index)))
    bank.advance(0)
    return bank


def conditions_of(
    model: AvatarModel, batch: ChunkBatch, tokens: Tensor, dropped: Dropped
) -> Conditions:
    """Of chunks, from the tokens of their windows."""
    own = drop_audio(chunk_tokens(tokens, batch), model.audio.tokens.null, dropped.audio)
    return batch.conditions(own, dropped)


def draw_times(batch: int, shift: float, generator: torch.Generator) -> Tensor:
    """`[B]` in 0 to 1: logit-normal (Esser et al., 2024), a fifth of them uniform, then shifted."""
    device = generator.device
    t = torch.randn(batch, device=device, generator=generator).sigmoid()
    uniform = torch.rand(2, batch, device=device, generator=generator)
    t = torch.where(uniform[0] < 0.2, uniform[1], t)
    return shift * t / (1 + (shift - 1) * t)


def noised_motion(motion: Tensor, config: FlowStageConfig, generator: torch.Generator) -> Tensor:
    """Motion `[B, M, C, h, w]` as a long stream hands it on: a little noisy, a little off.

    It is still presented as clean, so the denoiser learns to mend it from the portrait.
    """
    device = motion.device
    level = torch.rand(len(motion), 1, 1, 1, 1, device=device, generator=generator)
    offset = torch.randn(len(motion), 1, motion.shape[2], 1, 1, device=device, generator=generator)
    noise = _normal_like(motion, generator)
    return motion + level * (config.motion_noise * noise + config.motion_offset * offset)


def token_weights(masks: Tensor, config: FlowStageConfig) -> Tensor:
    """`[B, F, 2, h, w]` to `[B, F, 1, h, w]`, 1 outside faces."""
    face, mouth = masks.split(1, dim=2)
    return 1 + config.face_weight * face + config.mouth_weight * mouth


def _normal_like(like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(like.shape, device=like.device, generator=generator)
