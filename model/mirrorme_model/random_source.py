"""Random weights, made one tensor at a time: models of any size without the memory for them."""

from __future__ import annotations

import hashlib
import math

import torch
from torch import Tensor

from mirrorme_model.tensor_source import Shapes

_ZERO_AT_START = (
    "denoiser.prompt",
    "denoiser.token_types",
    "audio.tokens.padding",
    "audio.tokens.null",
    "attention.to_out.0.weight",
    "attention.to_out.0.bias",
    "control_embedding.output.weight",
    "control_embedding.output.bias",
    "hand_encoder.output.weight",
    "hand_encoder.output.bias",
    "guidance_embedding.embedder.linear_2.weight",
    "guidance_embedding.embedder.linear_2.bias",
)
_CONSTANTS = (
    ("layer_norm.weight", 1.0),
    ("q_norm.weight", 1.0),
    ("k_norm.weight", 1.0),
    ("weight.original0", 1.0),
    ("scale.std", 1.0),
    ("scale.mean", 0.0),
    ("timestep_scale_multiplier", 1000.0),
    ("audio.layer_weights", 0.01),
)


class RandomSource:
    """Weights of `AvatarModel` that keep the size of what passes through them.

    The same name, shape and seed give the same tensor. They differ from `AvatarModel.random`'s.
    """

    def __init__(self, shapes: Shapes, seed: int, *, zero_adapters: bool = False) -> None:
        """`zero_adapters`: layers that start at zero stay so, and adapters change nothing."""
        self.shapes = shapes
        self._seed = seed
        self._zeros = _ZERO_AT_START if zero_adapters else ()

    def read(self, name: str) -> Tensor:
        """See `TensorSource`."""
        shape = self.shapes[name]
        if name.endswith(self._zeros):
            return torch.zeros(shape)
        for ending, value in _CONSTANTS:
            if name.endswith(ending):
                return torch.full(shape, value)
        digest = hashlib.sha256(f"{self._seed} {name}".encode()).digest()
        generator = torch.Generator("cpu").manual_seed(int.from_bytes(digest[:7]))
        tensor = torch.randn(shape, generator=generator)
        return tensor.mul_(_size(name, shape))


def _size(name: str, shape: tuple[int, ...]) -> float:
    """Standard deviation: inputs of size 1 give outputs of size 1."""
    if name.endswith(".weight") and len(shape) > 1:
        return math.prod(shape[1:]) ** -0.5
    return 0.02 if name.endswith(".bias") else 0.1
