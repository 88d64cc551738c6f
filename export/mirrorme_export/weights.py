"""The model to export: from a checkpoint, from published weights, or with random ones."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path

from mirrorme_model.adapter_checkpoint import ADAPTERS_MADE_BY, open_adapters
from mirrorme_model.avatar import AvatarModel
from mirrorme_model.checkpoint import load_checkpoint, read_header
from mirrorme_model.config import ModelConfig
from mirrorme_model.model_weights import (
    ModelWeights,
    joined_weights,
    model_shapes,
    published_config,
    random_weights,
)
from mirrorme_model.presets import preset
from mirrorme_model.published_ltx import BASE_PUBLISHED_AS, open_base
from mirrorme_model.published_wav2vec2 import WAV2VEC2_PUBLISHED_AS, open_wav2vec2
from mirrorme_model.tensor_source import SafetensorsSource
from mirrorme_model.text_embedding import read_text_embedding

from mirrorme_export.errors import InvalidRequest

_MAX_WHOLE_BYTES = 1 << 30


@dataclass(frozen=True)
class Shape:
    """What may be chosen anew at export, without other weights. None: as the checkpoint has it."""

    width_px: int | None = None
    height_px: int | None = None
    chunk_latents: int | None = None

    def apply(self, config: ModelConfig) -> ModelConfig:
        """The config of this shape."""
        video = dataclasses.replace(
            config.video,
            width_px=self.width_px or config.video.width_px,
            height_px=self.height_px or config.video.height_px,
        )
        num_latents = self.chunk_latents or config.chunk.num_latents
        chunk = dataclasses.replace(config.chunk, num_latents=num_latents)
        return dataclasses.replace(config, video=video, chunk=chunk)


@dataclass(frozen=True)
class PublishedFiles:
    """Where a model's parts lie. Those that are None were not given."""

    base: Path | None = None
    wav2vec2: Path | None = None
    adapter: Path | None = None
    no_adapter: bool = False
    """Adapters that change nothing are wanted."""
    text_embedding: Path | None = None

    @property
    def given(self) -> bool:
        """Anything was."""
        return self != PublishedFiles()

    def missing(self) -> list[str]:
        """What else is needed, and where it is found."""
        wanted = [
            (self.base, "--base (BASE=)", BASE_PUBLISHED_AS),
            (self.wav2vec2, "--wav2vec2 (WAV2VEC2=)", WAV2VEC2_PUBLISHED_AS),
            (
                self.adapter or self.no_adapter or None,
                "--adapter (ADAPTER=)",
                f"{ADAPTERS_MADE_BY}; --no-adapter exports the base without any",
            ),
        ]
        return [f"{option}: {found_at}" for given, option, found_at in wanted if given is None]


def is_large(config: ModelConfig) -> bool:
    """True for models that are exported without all of their weights in memory."""
    return 4 * sum(math.prod(shape) for shape in model_shapes(config).values()) > _MAX_WHOLE_BYTES


def wants_published_weights(name: str) -> bool:
    """True for presets whose base is published, so that random weights must be asked for."""
    return preset(name).dit.text is not None


def published_weights(name: str, shape: Shape, files: PublishedFiles) -> ModelWeights:
    """Opens all parts, and checks that they fit each other; reads none of them.

    Raises:
        InvalidRequest: a part was not given, or the preset has no published base.
        CheckpointError: a part does not fit.
    """
    if not wants_published_weights(name):
        raise InvalidRequest(f"preset {name!r} takes no published weights: use --checkpoint")
    if missing := files.missing():
        raise InvalidRequest(
            "\n  ".join([f"{name} lacks weights (or say --random, or --checkpoint):", *missing])
        )
    assert files.base and files.wav2vec2
    wav2vec2 = open_wav2vec2(files.wav2vec2)
    adapters = open_adapters(files.adapter) if files.adapter else None
    start = adapters.config if adapters else preset(name)
    assert start.dit.text
    prompt = (
        read_text_embedding(files.text_embedding, start.dit.text.caption_channels)
        if files.text_embedding
        else None
    )
    config = published_config(preset(name), wav2vec2, adapters, prompt)
    base = open_base(files.base, config)
    return joined_weights(shape.apply(config), base, wav2vec2, adapters, prompt)


def large_random_model(name: str, shape: Shape, seed: int) -> ModelWeights:
    """As `random_model`, not yet in memory; the weights are others."""
    return random_weights(shape.apply(preset(name)), seed)


def large_checkpoint_model(name: str, shape: Shape, path: Path) -> ModelWeights:
    """As `checkpoint_model`, not yet in memory."""
    header = read_header(path)
    _check_preset(path, header.config, name)
    source = SafetensorsSource([path])
    return ModelWeights(shape.apply(header.config), source, header.trained)


def random_model(name: str, shape: Shape, seed: int) -> AvatarModel:
    """A preset with random weights: the same seed, the same weights."""
    return AvatarModel.random(shape.apply(preset(name)), seed)


def checkpoint_model(name: str, shape: Shape, path: Path) -> tuple[AvatarModel, bool]:
    """The model of a checkpoint, and whether it was trained.

    Raises:
        CheckpointError: the file cannot be read.
        InvalidRequest: it is of another preset.
    """
    checkpoint = load_checkpoint(path)
    model = checkpoint.model
    _check_preset(path, model.config, name)
    config = shape.apply(model.config)
    if config != model.config:
        shaped = AvatarModel(config)
        shaped.load_state_dict(model.state_dict())
        model = shaped.eval()
    return model, checkpoint.trained


def _check_preset(path: Path, config: ModelConfig, name: str) -> None:
    if config.preset != name:
        raise InvalidRequest(f"{path} is of preset {config.preset!r}, not {name!r}")
