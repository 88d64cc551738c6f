"""The manifest of an export: what the model's config and the exported graphs say."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import torch
from mirrorme_engines.manifest import (
    FORMAT_VERSION,
    AudioSpec,
    ChunkSpec,
    ControlSpec,
    DType,
    EngineSpec,
    Manifest,
    RangeSpec,
    TensorSpec,
    VideoSpec,
    engine_sha256,
)
from mirrorme_model.audio_window import AudioWindow
from mirrorme_model.config import ModelConfig, RangeConfig
from mirrorme_model.vae_config import FRAMES_PER_LATENT
from torch import Tensor

from mirrorme_export.engine_graphs import EngineGraph
from mirrorme_export.errors import UnexportableGraph

_DTYPES: dict[torch.dtype, DType] = {
    torch.uint8: "uint8",
    torch.int64: "int64",
    torch.float32: "float32",
}
_PACKAGES = ("mirrorme", "torch", "onnx", "onnxscript", "onnxruntime")


def engine_file(name: str) -> str:
    """Where an engine lies in its repository, as Triton wants it."""
    return f"{name}/1/model.onnx"


def describe_engine(graph: EngineGraph, folder: Path, max_batch_size: int) -> EngineSpec:
    """What the manifest says of an engine that lies in `folder` already."""
    inputs = graph.example_inputs(1, 0)
    return EngineSpec(
        name=graph.name,
        role=graph.role,
        file=engine_file(graph.name),
        sha256=engine_sha256(folder / engine_file(graph.name)),
        max_batch_size=max_batch_size,
        inputs=_tensors(graph, graph.input_names, inputs),
        outputs=_tensors(graph, graph.output_names, graph.outputs_like(inputs)),
        num_steps=graph.num_steps,
    )


def describe_model(
    config: ModelConfig, weights_sha256: str, *, trained: bool, engines: tuple[EngineSpec, ...]
) -> Manifest:
    """The manifest of a model's engines."""
    return Manifest(
        format_version=FORMAT_VERSION,
        preset=config.preset,
        trained=trained,
        weights_sha256=weights_sha256,
        versions={name: metadata.version(name) for name in _PACKAGES},
        video=_video(config),
        chunk=ChunkSpec(
            num_latents=config.chunk.num_latents,
            motion_latents=config.chunk.motion_latents,
            decoder_context_latents=config.vae.context_latents,
            decoder_lookahead_latents=config.vae.lookahead_latents,
        ),
        audio=_audio(config),
        hands=config.hands is not None,
        controls=tuple(
            ControlSpec(control.name, control.unit, _range(control.range))
            for control in config.controls.controls
        ),
        expression=_range(config.expression),
        guidance=_range(config.guidance) if config.guidance else None,
        engines=engines,
    )


def _video(config: ModelConfig) -> VideoSpec:
    video = config.video
    return VideoSpec(
        height_px=video.height_px,
        width_px=video.width_px,
        frame_rate_numerator=video.frame_rate_numerator,
        frame_rate_denominator=video.frame_rate_denominator,
        frames_per_latent=FRAMES_PER_LATENT,
        latent_channels=config.vae.latent_channels,
        latent_height=video.latent_height,
        latent_width=video.latent_width,
    )


def _audio(config: ModelConfig) -> AudioSpec:
    window = AudioWindow.of(config)
    return AudioSpec(
        sample_rate_hz=config.audio.sample_rate_hz,
        hop_samples=window.hop_samples,
        past_samples=window.past_samples,
        window_samples=window.window_samples,
        num_phases=window.num_phases,
    )


def _range(config: RangeConfig) -> RangeSpec:
    return RangeSpec(config.min, config.max, config.default)


def _tensors(
    graph: EngineGraph, names: tuple[str, ...], tensors: tuple[Tensor, ...]
) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(name, _dtype(graph, name, tensor), tuple(tensor.shape[1:]))
        for name, tensor in zip(names, tensors, strict=True)
    )


def _dtype(graph: EngineGraph, name: str, tensor: Tensor) -> DType:
    if tensor.dtype not in _DTYPES:
        raise UnexportableGraph(f"{graph.name}: {name} is {tensor.dtype}: want {list(_DTYPES)}")
    return _DTYPES[tensor.dtype]
