"""Checkpoints: one safetensors file with weights, config and origin.

`config`, `trained` and `provenance` are JSON in the file's metadata. Weights are named as in
`AvatarModel.state_dict()`. Reading published checkpoints of other projects is not done here.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mirrorme_model.avatar import AvatarModel
from mirrorme_model.config import ModelConfig
from mirrorme_model.errors import CheckpointError, ConfigError

FORMAT = "mirrorme-1"
StoredType: TypeAlias = Literal["float16", "float32"]
Provenance: TypeAlias = dict[str, str | int | float]
_METADATA = ("format", "config", "trained", "provenance")
_MAX_LISTED = 5


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds."""

    model: AvatarModel
    """In evaluation mode, float32, on the CPU."""
    trained: bool
    """False: the weights are random, for development only."""
    provenance: Provenance
    """Where the weights come from: data, code version, steps and the like."""


def save_checkpoint(
    path: Path,
    model: AvatarModel,
    *,
    trained: bool,
    provenance: Provenance,
    dtype: StoredType = "float32",
) -> None:
    """Writes a checkpoint, atomically; the same weights give the same bytes.

    Args:
        path: the file; its folder must exist.
        model: what to save.
        trained: False for random weights.
        provenance: where the weights come from.
        dtype: of the floating-point weights in the file.
    """
    stored = torch.float16 if dtype == "float16" else torch.float32
    tensors = {
        name: _stored(tensor.detach().cpu(), stored, name)
        for name, tensor in model.state_dict().items()
    }
    metadata = {
        "format": FORMAT,
        "config": model.config.to_json(),
        "trained": json.dumps(trained),
        "provenance": json.dumps(provenance, sort_keys=True),
    }
    partial = path.with_name(path.name + ".partial")
    save_file(tensors, partial, metadata)
    partial.replace(path)


def load_checkpoint(path: Path) -> Checkpoint:
    """Reads a checkpoint.

    Raises:
        CheckpointError: with the path, and the setting or the weights at fault.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            config, trained, provenance = _parse_metadata(metadata)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError as error:
        raise CheckpointError(f"no checkpoint {path}") from error
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    except (CheckpointError, ConfigError) as error:
        raise CheckpointError(f"{path}: {error}") from error
    model = AvatarModel(config)
    try:
        _check_tensors(model.state_dict(), tensors)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    model.load_state_dict(tensors)
    return Checkpoint(model.eval(), trained, provenance)


def _stored(tensor: Tensor, dtype: torch.dtype, name: str) -> Tensor:
    if not tensor.is_floating_point():
        return tensor.contiguous()
    stored = tensor.to(dtype).contiguous()
    if not stored.isfinite().all():
        raise CheckpointError(f"{name} is not finite as {dtype}")
    return stored


def _parse_metadata(metadata: dict[str, str]) -> tuple[ModelConfig, bool, Provenance]:
    if missing := [key for key in _METADATA if key not in metadata]:
        raise CheckpointError(f"metadata lacks {', '.join(missing)}: not a MirrorMe checkpoint")
    if unknown := sorted(metadata.keys() - set(_METADATA)):
        raise CheckpointError(f"metadata has unknown keys: {', '.join(unknown)}")
    if metadata["format"] != FORMAT:
        raise CheckpointError(f"format is {metadata['format']!r}: want {FORMAT!r}")
    if metadata["trained"] not in ("true", "false"):
        raise CheckpointError(f"trained is {metadata['trained']!r}: want true or false")
    try:
        provenance = json.loads(metadata["provenance"])
    except ValueError as error:
        raise CheckpointError(f"provenance is not JSON: {error}") from error
    if not isinstance(provenance, dict):
        raise CheckpointError(f"provenance is {provenance!r}: want an object")
    return ModelConfig.from_json(metadata["config"]), metadata["trained"] == "true", provenance


def _check_tensors(wanted: dict[str, Tensor], got: dict[str, Tensor]) -> None:
    faults = [f"{name} is missing" for name in sorted(wanted.keys() - got.keys())]
    faults += [f"{name} is unknown" for name in sorted(got.keys() - wanted.keys())]
    faults += [
        f"{name} is {list(got[name].shape)}, want {list(wanted[name].shape)}"
        for name in sorted(wanted.keys() & got.keys())
        if got[name].shape != wanted[name].shape
    ]
    if faults:
        listed = "; ".join(faults[:_MAX_LISTED])
        more = f"; and {len(faults) - _MAX_LISTED} more" if len(faults) > _MAX_LISTED else ""
        raise CheckpointError(f"weights do not fit the config: {listed}{more}")
