"""Stage 4: a student whose few Euler steps end where the teacher's many do.

The teacher's ODE maps noise to data without chance, so its end points can be regressed through the
whole unrolled sampler that is exported (as Luhman and Luhman, 2021, do for one step). The motion
context is often what the student itself made of the chunks before (as Self Forcing, Huang et al.,
2025), so it learns to go on from its own output. At the mouth, where speech decides, the recorded
latents pull as well.
"""

from __future__ import annotations

import torch
from mirrorme_model.avatar import AvatarModel
from torch import Tensor

from mirrorme_training.clip_window import ClipSource, window_tokens
from mirrorme_training.flow_batch import (
    ChunkBatch,
    Dropped,
    draw_chunks,
    draw_dropped,
    take_chunks,
)
from mirrorme_training.flow_stage import (
    FlowStage,
    conditions_of,
    noised_motion,
    token_weights,
)
from mirrorme_training.flow_strip import flow_strip
from mirrorme_training.parts import WHOLE, Parts
from mirrorme_training.recipe import DistillStageConfig
from mirrorme_training.rollout import even_sigmas
from mirrorme_training.stage import Picture, averaged_copy


class DistillStage(FlowStage):
    """See `Stage`. The teacher is the checkpoint that the stage starts from."""

    def __init__(
        self, model: AvatarModel, config: DistillStageConfig, source: ClipSource, seed: int, *,
        autocast: bool, parts: Parts = WHOLE,
    ) -> None:  # fmt: skip
        super().__init__(model, config.flow, source, seed, autocast=autocast, parts=parts)
        self._distill = config
        self.teacher = averaged_copy(model)
        self._sigmas = even_sigmas(config.teacher_steps)

    def compile(self) -> None:
        """See `Stage`: steps are called one by one, not through `forward`."""
        for denoiser in (self.model.denoiser, self.teacher.denoiser):
            denoiser.velocity = torch.compile(denoiser.velocity)

    def loss(self, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """See `Stage`."""
        config, model = self._distill.flow, self.model
        length, device = model.config.chunk.num_latents, self.bank["latents"].device
        depth = self.rollout_depth(step)
        first = draw_chunks(self.bank, model.config, config, generator, depth * length)
        dropped = draw_dropped(model.config, config.dropout, len(first.rows), generator)
        tokens, speech_loss, heard = self.hear(first, generator)
        with torch.no_grad():
            clean = self.bank["pcm"][first.clips].float()
            taught = window_tokens(self.teacher.audio, clean, self.bank["latents"].shape[1])
            motion = noised_motion(first.motion, config, generator)
            motion = self.own_motion(first, depth, tokens, dropped, motion, generator)
        # Weights that autocast has cast without gradients must not be used with them.
        torch.clear_autocast_cache()
        starts = first.starts + depth * length
        batch = take_chunks(
            self.bank, first.clips, first.rows, starts, length, first.identity, motion
        )
        noise = torch.randn(batch.target.shape, device=device, generator=generator)
        student = conditions_of(model, batch, tokens, dropped)
        made = model.denoiser.sample(noise, student).float()
        with torch.no_grad():
            conditions = conditions_of(self.teacher, batch, taught, dropped)
            wanted = self.teacher.denoiser.sample(noise, conditions, self._sigmas).float()
        weights = token_weights(batch.masks, config)
        errors = (made - wanted).square().mean(dim=2, keepdim=True)
        loss = (errors * weights).mean() / weights.mean()
        numbers = {"endpoint": loss.detach()}
        truth = self._truth_loss(made, batch, dropped, depth)
        pixels = self._pixel_loss(made, wanted, batch)
        numbers |= {"truth": truth.detach(), "pixels": pixels.detach(), **heard}
        loss = loss + self._distill.truth_weight * truth + self._distill.pixel_weight * pixels
        return loss + config.speech_weight * speech_loss, numbers

    def strip(self) -> Picture:
        """As the exported sampler draws."""
        given = self._distill.flow.dropout.hands < 1
        return flow_strip(self.average, self.bank, None, hands=given)

    def _truth_loss(self, made: Tensor, batch: ChunkBatch, dropped: Dropped, depth: int) -> Tensor:
        """At the mouth, while the head is still where it was recorded."""
        if depth:
            return made.new_zeros(())
        heard = (~dropped.audio).float()[:, None, None, None, None]
        weights = batch.masks[:, :, 1:] * heard
        errors = (made - batch.target).square().mean(dim=2, keepdim=True)
        return (errors * weights).sum() / weights.sum().clamp(min=1.0)

    def _pixel_loss(self, made: Tensor, wanted: Tensor, batch: ChunkBatch) -> Tensor:
        """Distance of the decoded mouths."""
        if not self._distill.pixel_weight:
            return made.new_zeros(())
        few = slice(self._distill.pixel_batch)
        vae, size = self.average.vae, made.shape[-2:]
        config = vae.config
        before = batch.identity[few, None].expand(-1, config.context_latents, -1, *size)

        def decode(latents: Tensor) -> Tensor:
            after = latents[few, -1:].expand(-1, config.lookahead_latents, -1, *size)
            window = torch.cat([before, latents[few], after], dim=1)
            return vae.decode_chunk(window.transpose(1, 2)).float()

        difference = decode(made) - decode(wanted).detach()
        mouth = batch.masks[few, :, 1].amax(dim=1)[:, None, None]
        scale = difference.shape[-1] // size[-1]
        mouth = mouth.repeat_interleave(scale, dim=-1).repeat_interleave(scale, dim=-2)
        return (difference.abs() * mouth).mean() / mouth.mean().clamp(min=1e-3)
