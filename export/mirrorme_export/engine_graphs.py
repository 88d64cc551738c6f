"""The graphs that a model is exported as, and random inputs of the right shapes for each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from mirrorme_engines.manifest import Role
from mirrorme_model.avatar import AvatarModel
from mirrorme_model.config import ModelConfig
from mirrorme_model.graphs import (
    AudioEncoderGraph,
    DecoderGraph,
    DenoiserGraph,
    IdentityEncoderGraph,
)
from torch import Tensor, nn

from mirrorme_export.errors import InvalidRequest

Examples = Callable[[int, int], tuple[Tensor, ...]]


@dataclass(frozen=True)
class EngineGraph:
    """One engine to be, in torch."""

    name: str
    role: Role
    module: nn.Module
    """In evaluation mode; its positional inputs and its outputs are the engine's."""
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]
    example_inputs: Examples
    """Of a batch size and a seed."""
    num_steps: int | None = None

    def run(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The outputs, by torch."""
        with torch.inference_mode():
            outputs = self.module(*inputs)
        return outputs if isinstance(outputs, tuple) else (outputs,)


def engine_graphs(model: AvatarModel, other_steps: tuple[int, ...] = ()) -> list[EngineGraph]:
    """All graphs of a model, the default of each role first.

    Args:
        model: in evaluation mode.
        other_steps: numbers of denoising steps of further, cheaper denoisers.

    Raises:
        InvalidRequest: a number of steps is not between 1 and the model's own.
    """
    config = model.config
    audio = AudioEncoderGraph(model.audio)
    return [
        EngineGraph(
            name="identity_encoder",
            role="identity_encoder",
            module=IdentityEncoderGraph(model.vae).eval(),
            input_names=("image",),
            output_names=("identity",),
            example_inputs=lambda batch, seed: (_random_picture(config, batch, seed),),
        ),
        EngineGraph(
            name="audio_encoder",
            role="audio_encoder",
            module=audio.eval(),
            input_names=audio.input_names,
            output_names=audio.output_names,
            example_inputs=audio.example_inputs,
        ),
        _denoiser("denoiser", model, config.sigmas),
        *(
            _denoiser(f"denoiser_{steps}step", model, fewer_sigmas(config.sigmas, steps))
            for steps in other_steps
        ),
        EngineGraph(
            name="decoder",
            role="decoder",
            module=DecoderGraph(model.vae).eval(),
            input_names=("latents",),
            output_names=("frames",),
            example_inputs=lambda batch, seed: (_random_latents(config, batch, seed),),
        ),
    ]


def fewer_sigmas(sigmas: tuple[float, ...], num_steps: int) -> tuple[float, ...]:
    """Noise levels of fewer steps: evenly chosen of the given ones, with the first and the last."""
    full = len(sigmas) - 1
    if not 1 <= num_steps < full:
        raise InvalidRequest(
            f"a further denoiser of {num_steps} steps: want 1 to {full - 1}, fewer than the "
            f"model's {full}"
        )
    return tuple(sigmas[round(i * full / num_steps)] for i in range(num_steps + 1))


def _denoiser(name: str, model: AvatarModel, sigmas: tuple[float, ...]) -> EngineGraph:
    graph = DenoiserGraph(model.denoiser, sigmas)
    return EngineGraph(
        name=name,
        role="denoiser",
        module=graph.eval(),
        input_names=graph.input_names,
        output_names=graph.output_names,
        example_inputs=graph.example_inputs,
        num_steps=len(sigmas) - 1,
    )


def _random_picture(config: ModelConfig, batch: int, seed: int) -> Tensor:
    """`[B, H, W, 3]` uint8."""
    generator = torch.Generator().manual_seed(seed)
    size = (batch, config.video.height_px, config.video.width_px, 3)
    return torch.randint(0, 256, size, dtype=torch.uint8, generator=generator)


def _random_latents(config: ModelConfig, batch: int, seed: int) -> Tensor:
    """`[B, D + Tc + L, C, h, w]`, normalised."""
    decoder, video = config.vae.decoder, config.video
    num_latents = decoder.context_latents + config.chunk.num_latents + decoder.lookahead_latents
    size = (num_latents, config.vae.latent_channels, video.latent_height, video.latent_width)
    return torch.randn(batch, *size, generator=torch.Generator().manual_seed(seed))
