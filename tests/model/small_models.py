"""Small configs and inputs that the model's tests share."""

import dataclasses

import torch
from mirrorme_model.conditions import Conditions
from mirrorme_model.config import ModelConfig, RangeConfig, TextConfig
from mirrorme_model.denoiser import Denoiser
from mirrorme_model.graphs import DenoiserGraph
from mirrorme_model.presets import preset
from torch import Tensor


def every_feature() -> ModelConfig:
    """`tiny` with text, guidance, and several latent frames of chunk and motion."""
    config = preset("tiny", width_px=96, chunk_latents=3)
    return dataclasses.replace(
        config,
        chunk=dataclasses.replace(config.chunk, motion_latents=2),
        dit=dataclasses.replace(
            config.dit, text=TextConfig(caption_channels=12, num_prompt_tokens=5)
        ),
        guidance=RangeConfig(min=1.0, max=8.0, default=4.0),
    )


def example(denoiser: Denoiser, batch: int = 2, seed: int = 0) -> tuple[Tensor, Conditions]:
    """Noise and conditions, without face channels."""
    graph = DenoiserGraph(denoiser)
    inputs = dict(zip(graph.input_names, graph.example_inputs(batch, seed), strict=True))
    noise = inputs.pop("noise")
    channels = denoiser.config.vae.picture_channels
    inputs |= {name: inputs[name].narrow(-3, 0, channels) for name in ("identity", "motion")}
    return noise.narrow(-3, 0, channels), Conditions(**inputs)


def speech(num_samples: int, batch: int = 1, seed: int = 0) -> Tensor:
    """[batch, num_samples]: noise with a loudness that comes and goes."""
    noise = torch.randn(batch, num_samples, generator=torch.Generator().manual_seed(seed))
    return 0.2 * noise * torch.sin(torch.arange(num_samples) / 2500).abs()


def without_cues(face_channels: int = 0) -> ModelConfig:
    """Preset tiny as it was before its decoder was told of faces, or of hands."""
    config = preset("tiny")
    vae = dataclasses.replace(
        config.vae,
        latent_channels=config.vae.picture_channels + face_channels,
        face_channels=face_channels,
        hand_channels=0,
        decoder=config.vae.decoder
        and dataclasses.replace(config.vae.decoder, flow=False, hand_layer=False),
    )
    return dataclasses.replace(config, vae=vae)
