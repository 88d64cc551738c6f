"""A stream as the gateway makes it: chunk after chunk, each after the latents made before."""

from __future__ import annotations

import dataclasses

import torch
from mirrorme_model.conditions import Conditions
from mirrorme_model.denoiser import Denoiser
from torch import Tensor


def even_sigmas(num_steps: int) -> tuple[float, ...]:
    """Noise levels from 1 to 0 in equal steps."""
    return (*(1 - i / num_steps for i in range(num_steps)), 0.0)


def roll_out(
    denoiser: Denoiser, chunks: list[Conditions], noise: Tensor, sigmas: tuple[float, ...] | None
) -> Tensor:
    """Makes consecutive chunks.

    Args:
        denoiser: whose sampler is used.
        chunks: conditions of each; of their `motion`, the first one's alone is used.
        noise: [B, chunks, F, C, h, w].
        sigmas: noise levels; None: the config's.

    Returns:
        [B, chunks * F, C, h, w], of pictures alone, as `Denoiser.sample`.
    """
    motion = chunks[0].motion
    made: list[Tensor] = []
    for number, conditions in enumerate(chunks):
        now = dataclasses.replace(conditions, motion=motion)
        latents = denoiser.sample(noise[:, number], now, sigmas)
        made.append(latents)
        motion = torch.cat([motion, latents], dim=1)[:, -motion.shape[1] :]
    return torch.cat(made, dim=1)
