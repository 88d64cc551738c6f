"""The weights of a whole model, wherever they come from, not yet in memory.

`AvatarModel` needs a base (transformer and VAE), a speech backbone, and adapters: everything else,
the fixed prompt included. Published checkpoints have the first two, this project's training makes
the third.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mirrorme_model.adapter_checkpoint import AdapterCheckpoint, is_adapter_key
from mirrorme_model.avatar import AvatarModel
from mirrorme_model.config import ModelConfig
from mirrorme_model.errors import CheckpointError
from mirrorme_model.lora import MergedSource, is_lora_key
from mirrorme_model.published_wav2vec2 import PublishedWav2Vec2
from mirrorme_model.random_source import RandomSource
from mirrorme_model.tensor_source import (
    JoinedSource,
    MemorySource,
    RenamedSource,
    Shapes,
    TensorSource,
)

PROMPT = "denoiser.prompt"


@dataclass(frozen=True)
class ModelWeights:
    """A config, and a source of exactly the tensors of its model's `state_dict()`."""

    config: ModelConfig
    source: TensorSource
    trained: bool
    """False: the weights, or the adapters, are not trained."""

    def __post_init__(self) -> None:
        """Refuses what a part of is missing."""
        wanted = model_shapes(self.config)
        if wrong := sorted(name for name in wanted if self.source.shapes.get(name) != wanted[name]):
            raise CheckpointError(
                f"{len(wrong)} weights are missing or of another shape: {', '.join(wrong[:5])}"
            )

    def load(self, *prefixes: str) -> AvatarModel:
        """The model, in evaluation mode, with those weights in memory whose name starts so.

        Without prefixes all are loaded. The rest stays on torch's device `meta`.
        """
        return self._build(self.source.read, prefixes or ("",))

    def unread(self, *prefixes: str) -> AvatarModel:
        """As `load`, with memory of any content: enough to trace, and no page of it is touched."""
        shapes = self.source.shapes
        return self._build(lambda name: torch.empty(shapes[name]), prefixes or ("",))

    def sha256(self) -> str:
        """As `AvatarModel.weights_sha256`, one tensor at a time."""
        digest = hashlib.sha256(self.config.to_json().encode())
        for name, shape in sorted(model_shapes(self.config).items()):
            digest.update(f"{name} {torch.float32} {shape}".encode())
            digest.update(self.source.read(name).flatten().view(torch.uint8).numpy().data)
        return digest.hexdigest()

    def _build(self, read: Callable[[str], Tensor], prefixes: tuple[str, ...]) -> AvatarModel:
        model = _meta_model(self.config)
        names = [name for name in model.state_dict() if name.startswith(prefixes)]
        model.load_state_dict({name: read(name) for name in names}, strict=False, assign=True)
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        return model.eval()


def model_shapes(config: ModelConfig) -> Shapes:
    """Of `AvatarModel.state_dict()`, without making one."""
    return {name: tuple(t.shape) for name, t in _meta_model(config).state_dict().items()}


def random_weights(config: ModelConfig, seed: int) -> ModelWeights:
    """Random everywhere, so that every input has an effect."""
    return ModelWeights(config, RandomSource(model_shapes(config), seed), trained=False)


def joined_weights(
    config: ModelConfig,
    base: TensorSource,
    wav2vec2: PublishedWav2Vec2,
    adapters: AdapterCheckpoint | None,
    prompt: Tensor | None = None,
    *,
    merge_lora: bool = True,
) -> ModelWeights:
    """A model of published weights and the project's own adapters.

    Args:
        config: of the model, as `published_config` gives it.
        base: transformer and VAE.
        wav2vec2: the speech backbone.
        adapters: None: adapters that change nothing, for looking at the base alone.
        prompt: [1, tokens, caption_channels]; None: the adapters', or else zeros.
        merge_lora: False: the adapters' LoRA, if they have one, is left out, to be trained on.
    """
    if adapters and adapters.lora_rank and merge_lora:
        base = MergedSource(base, adapters.source)
    sources: list[TensorSource] = [base, wav2vec2.source]
    if prompt is not None:
        sources.append(MemorySource({PROMPT: prompt}))
    if adapters:
        own = {name: name for name in adapters.source.shapes if not is_lora_key(name)}
        sources.append(RenamedSource(adapters.source, own))
    else:
        shapes = model_shapes(config)
        missing = {name: shape for name, shape in shapes.items() if is_adapter_key(name)}
        sources.append(RandomSource(missing, seed=0, zero_adapters=True))
    trained = adapters is not None and adapters.trained
    return ModelWeights(config, JoinedSource(*sources), trained)


def published_config(
    start: ModelConfig,
    wav2vec2: PublishedWav2Vec2,
    adapters: AdapterCheckpoint | None,
    prompt: Tensor | None = None,
) -> ModelConfig:
    """The adapters' config, or `start` with the backbone that is given.

    Raises:
        CheckpointError: the adapters were trained on another preset or backbone.
    """
    if adapters is None:
        audio = dataclasses.replace(start.audio, backbone=wav2vec2.backbone)
        if audio.window:
            window = dataclasses.replace(audio.window, normalize=wav2vec2.normalize)
            audio = dataclasses.replace(audio, window=window)
        config = dataclasses.replace(start, audio=audio)
    else:
        config = adapters.config
        if config.preset != start.preset:
            raise CheckpointError(
                f"the adapters are of preset {config.preset!r}, not {start.preset!r}"
            )
        if config.audio.backbone != wav2vec2.backbone:
            want, got = config.audio.backbone, wav2vec2.backbone
            differing = [
                f"{field.name} is {getattr(got, field.name)}, want {getattr(want, field.name)}"
                for field in dataclasses.fields(want)
                if getattr(got, field.name) != getattr(want, field.name)
            ]
            raise CheckpointError(
                f"the adapters were trained on another wav2vec2: {'; '.join(differing)}"
            )
    if prompt is not None and config.dit.text:
        text = dataclasses.replace(config.dit.text, num_prompt_tokens=prompt.shape[1])
        config = dataclasses.replace(config, dit=dataclasses.replace(config.dit, text=text))
    return config


def _meta_model(config: ModelConfig) -> AvatarModel:
    with torch.device("meta"):
        return AvatarModel(config)
