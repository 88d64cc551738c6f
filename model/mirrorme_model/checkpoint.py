"""Checkpoints: one safetensors file with weights, config and origin.

The metadata's one key, `mirrorme`, holds a `Header` as JSON (one key: safetensors writes several in
random order). Weights are named as in `AvatarModel.state_dict()`. Reading published checkpoints of
other projects is not done here.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mirrorme_model.avatar import AvatarModel
from mirrorme_model.config import ModelConfig
from mirrorme_model.errors import CheckpointError, ConfigError
from mirrorme_model.strict_json import dump_json, parse_json

FORMAT = 1
METADATA_KEY = "mirrorme"
StoredType: TypeAlias = Literal["float16", "float32"]
Provenance: TypeAlias = dict[str, Any]
"""JSON values by name."""
_MAX_LISTED = 5


@dataclass(frozen=True)
class Header:
    """What a checkpoint says besides its weights."""

    format: int
    config: ModelConfig
    trained: bool
    """False: the weights are random, for development only."""
    provenance: Provenance
    """Where the weights come from: data, code version, steps and the like."""


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
        name: stored_tensor(tensor.detach().cpu(), stored, name)
        for name, tensor in model.state_dict().items()
    }
    header = Header(FORMAT, model.config, trained, dict(sorted(provenance.items())))
    partial = path.with_name(path.name + ".partial")
    save_file(tensors, partial, {METADATA_KEY: dump_json(header)})
    partial.replace(path)


def read_header(path: Path) -> Header:
    """What a checkpoint says of itself; its weights are not read.

    Raises:
        CheckpointError: with the path, and the setting at fault.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return _parse_header(file.metadata() or {})
    except FileNotFoundError as error:
        raise CheckpointError(f"no checkpoint {path}") from error
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    except (CheckpointError, ConfigError) as error:
        raise CheckpointError(f"{path}: {error}") from error


def load_checkpoint(path: Path) -> Checkpoint:
    """Reads a checkpoint.

    Raises:
        CheckpointError: with the path, and the setting or the weights at fault.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = _parse_header(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError as error:
        raise CheckpointError(f"no checkpoint {path}") from error
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    except (CheckpointError, ConfigError) as error:
        raise CheckpointError(f"{path}: {error}") from error
    model = AvatarModel(header.config)
    try:
        _check_tensors(model.state_dict(), tensors)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    model.load_state_dict(tensors)
    return Checkpoint(model.eval(), header.trained, header.provenance)


def stored_tensor(tensor: Tensor, dtype: torch.dtype, name: str) -> Tensor:
    """As a file has it. Raises `CheckpointError` for numbers that are too large for the type."""
    if not tensor.is_floating_point():
        return tensor.contiguous()
    stored = tensor.to(dtype).contiguous()
    if not stored.isfinite().all():
        raise CheckpointError(f"{name} is not finite as {dtype}")
    return stored


def _parse_header(metadata: dict[str, str]) -> Header:
    if METADATA_KEY not in metadata:
        raise CheckpointError(f"metadata lacks {METADATA_KEY}: not a MirrorMe checkpoint")
    text = metadata[METADATA_KEY]
    try:
        document = json.loads(text)
    except ValueError as error:
        raise CheckpointError(f"{METADATA_KEY} is not JSON: {error}") from error
    # First: other formats may have other settings.
    if isinstance(document, dict) and (got := document.get("format")) != FORMAT:
        raise CheckpointError(f"{METADATA_KEY}.format is {got!r}: want {FORMAT}")
    return parse_json(Header, text, METADATA_KEY)


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
