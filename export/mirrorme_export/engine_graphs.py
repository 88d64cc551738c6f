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
from mirrorme_model.tensor_source import Shapes
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from mirrorme_export.errors import InvalidRequest

_DENOISER = "denoiser"
Examples = Callable[[int, int], tuple[Tensor, ...]]


@dataclass(frozen=True)
class LateWeights:
    """The weights of a graph that is too large to be traced with them."""

    shapes: Shapes
    """By the graph's own names."""
    read: Callable[[str], Tensor]
    """One of them, float32."""
    load: Callable[[], nn.Module]
    """The graph's module with all of them, to run it."""


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
    late: LateWeights | None = None
    """For a module whose weights have memory, but no content yet: what to write and to run."""

    def run(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The outputs, by torch."""
        module = self.late.load() if self.late else self.module
        with torch.inference_mode():
            outputs = module(*inputs)
        return outputs if isinstance(outputs, tuple) else (outputs,)

    def outputs_like(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Tensors of the outputs' shapes and types without content; nothing is computed."""
        with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
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
    return [engine_graph(model, name) for name in engine_names(model.config, other_steps)]


def engine_names(config: ModelConfig, other_steps: tuple[int, ...] = ()) -> list[str]:
    """Of all engines of a model, the default of each role first; arguments as `engine_graphs`'s."""
    for steps in other_steps:
        fewer_sigmas(config.sigmas, steps)
    others = [f"{_DENOISER}_{steps}step" for steps in other_steps]
    return ["identity_encoder", "audio_encoder", _DENOISER, *others, "decoder"]


def engine_graph(model: AvatarModel, name: str) -> EngineGraph:
    """One graph of a model, by a name that `engine_names` gives."""
    config = model.config
    match name:
        case "identity_encoder":
            return EngineGraph(
                name=name,
                role="identity_encoder",
                module=IdentityEncoderGraph(model.vae).eval(),
                input_names=("image",),
                output_names=("identity",),
                example_inputs=lambda batch, seed: (_random_picture(config, batch, seed),),
            )
        case "audio_encoder":
            audio = AudioEncoderGraph(model.audio)
            return EngineGraph(
                name=name,
                role="audio_encoder",
                module=audio.eval(),
                input_names=audio.input_names,
                output_names=audio.output_names,
                example_inputs=audio.example_inputs,
            )
        case "decoder":
            return EngineGraph(
                name=name,
                role="decoder",
                module=DecoderGraph(model.vae).eval(),
                input_names=("latents",),
                output_names=("frames",),
                example_inputs=lambda batch, seed: (_random_latents(config, batch, seed),),
            )
    return _denoiser(name, model, denoiser_sigmas(config, name))


def denoiser_sigmas(config: ModelConfig, name: str) -> tuple[float, ...]:
    """Noise levels of a denoiser, by its name."""
    if name == _DENOISER:
        return config.sigmas
    steps = int(name.removeprefix(f"{_DENOISER}_").removesuffix("step"))
    return fewer_sigmas(config.sigmas, steps)


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
    vae, video = config.vae, config.video
    num_latents = vae.context_latents + config.chunk.num_latents + vae.lookahead_latents
    size = (num_latents, vae.latent_channels, video.latent_height, video.latent_width)
    return torch.randn(batch, *size, generator=torch.Generator().manual_seed(seed))
