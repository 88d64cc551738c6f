"""Checkpoints of adapters alone: what training adds to a published base that it leaves as it is.

The file is a `checkpoint` without the base's and the backbone's weights: same header, same names. A
LoRA of the base is part of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file

from mirrorme_model.avatar import AvatarModel
from mirrorme_model.checkpoint import (
    FORMAT,
    METADATA_KEY,
    Header,
    Provenance,
    StoredType,
    read_header,
    stored_tensor,
)
from mirrorme_model.config import ModelConfig
from mirrorme_model.errors import CheckpointError
from mirrorme_model.key_match import match_keys
from mirrorme_model.lora import add_lora, is_lora_key, lora_rank
from mirrorme_model.strict_json import dump_json
from mirrorme_model.tensor_source import SafetensorsSource, TensorSource

BASE_PREFIXES = ("denoiser.base.", "vae.", "audio.backbone.")
"""Of the weights that are published; all others are adapters."""
ADAPTERS_MADE_BY = (
    "Adapters are published nowhere: they come from this project's training (mirrorme-train)"
)


@dataclass(frozen=True)
class AdapterCheckpoint:
    """What a file holds."""

    config: ModelConfig
    trained: bool
    provenance: Provenance
    source: TensorSource
    """Under the names of `AvatarModel.state_dict()`, and of `lora.add_lora`."""

    @property
    def lora_rank(self) -> int | None:
        """Of the base's LoRA; None: the base is as published."""
        return lora_rank(self.source.shapes)


def is_adapter_key(name: str) -> bool:
    """True for a weight that no published checkpoint has."""
    return is_lora_key(name) or not name.startswith(BASE_PREFIXES)


def save_adapters(
    path: Path,
    model: AvatarModel,
    *,
    trained: bool,
    provenance: Provenance,
    dtype: StoredType = "float32",
) -> None:
    """Writes a model's adapters, atomically; arguments as `save_checkpoint`'s."""
    stored = torch.float16 if dtype == "float16" else torch.float32
    tensors = {
        name: stored_tensor(tensor.detach().cpu(), stored, name)
        for name, tensor in model.state_dict().items()
        if is_adapter_key(name)
    }
    header = Header(FORMAT, model.config, trained, dict(sorted(provenance.items())))
    partial = path.with_name(path.name + ".partial")
    save_file(tensors, partial, {METADATA_KEY: dump_json(header)})
    partial.replace(path)


def open_adapters(path: Path) -> AdapterCheckpoint:
    """Opens what `save_adapters` wrote, and checks every key.

    Raises:
        CheckpointError: with the path, and the setting or the weights at fault.
    """
    if not path.exists():
        raise CheckpointError(f"no adapters {path}. {ADAPTERS_MADE_BY}")
    header = read_header(path)
    source = SafetensorsSource([path])
    if any(not is_adapter_key(name) for name in source.shapes):
        raise CheckpointError(
            f"{path} holds a base or a backbone as well as adapters: it is a whole checkpoint, "
            "which --checkpoint takes, without --base and --wav2vec2"
        )
    with torch.device("meta"):
        model = AvatarModel(header.config)
        if rank := lora_rank(source.shapes):
            add_lora(model.denoiser.base, rank)
    wanted = {
        name: tuple(tensor.shape)
        for name, tensor in model.state_dict().items()
        if is_adapter_key(name)
    }
    match_keys(
        wanted,
        {name: name for name in wanted},
        source.shapes,
        is_unused=lambda _: False,
        where=str(path),
        advice=ADAPTERS_MADE_BY,
    )
    return AdapterCheckpoint(header.config, header.trained, header.provenance, source)
