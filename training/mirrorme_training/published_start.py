"""Where adapters start: a published base and speech backbone, and adapters of the stage before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from mirrorme_model.adapter_checkpoint import AdapterCheckpoint, open_adapters
from mirrorme_model.avatar import AvatarModel
from mirrorme_model.checkpoint import Provenance
from mirrorme_model.config import ModelConfig
from mirrorme_model.lora import add_lora, is_lora_key
from mirrorme_model.model_weights import joined_weights, published_config
from mirrorme_model.published_ltx import BASE_PUBLISHED_AS, open_base
from mirrorme_model.published_wav2vec2 import WAV2VEC2_PUBLISHED_AS, open_wav2vec2
from mirrorme_model.text_embedding import read_text_embedding
from torch import nn

from mirrorme_training.run_state import RunError


@dataclass(frozen=True)
class PublishedParts:
    """Files of others. Those that are None were not given."""

    base: Path | None = None
    wav2vec2: Path | None = None
    text_embedding: Path | None = None
    """A caption's; only where no adapters are gone on with."""

    @property
    def given(self) -> bool:
        """Anything was."""
        return self != NOTHING_PUBLISHED


NOTHING_PUBLISHED = PublishedParts()


def open_published(
    parts: PublishedParts,
    start: ModelConfig,
    init: Path | None,
    configured: Callable[[ModelConfig], ModelConfig],
    lora: int | None,
    seed: int,
) -> tuple[AvatarModel, Provenance | None]:
    """The model, float32, on the CPU, and where its adapters come from.

    Args:
        parts: of the model.
        start: the preset that the base is of.
        init: adapters to go on with; None: new ones, which change nothing at first.
        configured: the config that the stage wants, of the one found.
        lora: rank of the base's LoRA; None: none but the one in `init`.
        seed: of what is new.

    Raises:
        RunError: a part is missing, or the LoRA is of another rank.
        CheckpointError: a part does not fit.
    """
    if parts.base is None or parts.wav2vec2 is None:
        wanted = (
            ("--base", parts.base, BASE_PUBLISHED_AS),
            ("--wav2vec2", parts.wav2vec2, WAV2VEC2_PUBLISHED_AS),
        )
        missing = [f"{option}: {where}" for option, given, where in wanted if given is None]
        raise RunError("\n  ".join([f"{start.preset} lacks weights:", *missing]))
    if init is not None and parts.text_embedding is not None:
        raise RunError("--text-embedding is for the first stage: adapters hold their caption")
    wav2vec2 = open_wav2vec2(parts.wav2vec2)
    adapters = open_adapters(init) if init is not None else None
    prompt = None
    if parts.text_embedding is not None and start.dit.text is not None:
        prompt = read_text_embedding(parts.text_embedding, start.dit.text.caption_channels)
    config = configured(published_config(start, wav2vec2, adapters, prompt))
    base = open_base(parts.base, config)
    weights = joined_weights(config, base, wav2vec2, adapters, prompt, merge_lora=False)
    model = weights.load()
    _add_lora(model, adapters, lora, seed)
    return model, adapters.provenance if adapters else None


def _add_lora(
    model: AvatarModel, adapters: AdapterCheckpoint | None, rank: int | None, seed: int
) -> None:
    found = adapters.lora_rank if adapters else None
    if found and rank and found != rank:
        raise RunError(f"lora_rank is {rank}: the adapters' LoRA is of rank {found}")
    rank = found or rank
    if rank is None:
        return
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        add_lora(model.denoiser.base, rank)
    if adapters and found:
        names = [name for name in adapters.source.shapes if is_lora_key(name)]
        model.load_state_dict({n: adapters.source.read(n) for n in names}, strict=False)


def store_in_half(model: AvatarModel) -> None:
    """Turns the layers of base and VAE that stay as they are into bfloat16, in place.

    What they compute must then be computed under autocast. Tables and vectors keep their type.
    """
    for layer in (*model.denoiser.base.modules(), *model.vae.modules()):
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.Conv3d) and not layer.weight.requires_grad:
            layer.weight.data = layer.weight.data.to(torch.bfloat16)
