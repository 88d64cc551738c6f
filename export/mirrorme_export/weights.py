"""The model to export: from a checkpoint, or with random weights."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from mirrorme_model.avatar import AvatarModel
from mirrorme_model.checkpoint import load_checkpoint
from mirrorme_model.config import ModelConfig
from mirrorme_model.presets import preset

from mirrorme_export.errors import InvalidRequest


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
    if model.config.preset != name:
        raise InvalidRequest(f"{path} is of preset {model.config.preset!r}, not {name!r}")
    config = shape.apply(model.config)
    if config != model.config:
        shaped = AvatarModel(config)
        shaped.load_state_dict(model.state_dict())
        model = shaped.eval()
    return model, checkpoint.trained
