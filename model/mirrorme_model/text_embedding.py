"""A caption's embedding from a file: what the base's text attention sees in all chunks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from mirrorme_model.errors import CheckpointError


def read_text_embedding(path: Path, caption_channels: int) -> Tensor:
    """Reads [tokens, caption_channels] from a safetensors file of one tensor, or a .npy.

    Args:
        path: of T5's last hidden states of the caption's own tokens, padding cut off.
        caption_channels: what the base wants (T5-v1.1-XXL: 4096).

    Returns:
        float32 [1, tokens, caption_channels].

    Raises:
        CheckpointError: the file cannot be read, or holds something else.
    """
    embedding = _read(path)
    if embedding.dim() == 3 and embedding.shape[0] == 1:
        embedding = embedding[0]
    shape = list(embedding.shape)
    if len(shape) != 2 or shape[0] < 1 or shape[1] != caption_channels:
        raise CheckpointError(f"{path} is {shape}: want [tokens, {caption_channels}]")
    embedding = embedding.to(torch.float32)
    if not embedding.isfinite().all():
        raise CheckpointError(f"{path} is not finite")
    return embedding[None].contiguous()


def _read(path: Path) -> Tensor:
    try:
        if path.suffix == ".npy":
            array = np.load(path, allow_pickle=False)
            return torch.from_numpy(array.astype(np.float32))
        tensors = load_file(path)
    except FileNotFoundError as error:
        raise CheckpointError(f"no text embedding {path}") from error
    except (OSError, ValueError, TypeError, SafetensorError) as error:
        raise CheckpointError(
            f"{path} cannot be read: {error}; want a safetensors file of one tensor, or a .npy"
        ) from error
    if len(tensors) != 1:
        raise CheckpointError(f"{path} holds {len(tensors)} tensors: want one")
    return next(iter(tensors.values()))
