"""Low-rank changes of the base (LoRA, arXiv 2106.09685): a layer's weight becomes W + up · down.

Layers keep their names and weights, so a base with LoRA has the published one's state dict and two
matrices more a layer. There is no scale beside them: their shapes say all that a file needs to.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mirrorme_model.tensor_source import Shapes, TensorSource
from mirrorme_model.transformer import Transformer

_DOWN, _UP = ".lora_down", ".lora_up"


class LoraLinear(nn.Linear):
    """A layer with its change, which is nothing at first."""

    def __init__(self, layer: nn.Linear, rank: int) -> None:
        """Takes over the layer's weight and bias, the very tensors."""
        super().__init__(layer.in_features, layer.out_features, bias=False, device="meta")
        self.weight, self.bias = layer.weight, layer.bias
        device = layer.weight.device
        self.lora_down = nn.Parameter(torch.empty(rank, layer.in_features, device=device))
        self.lora_up = nn.Parameter(torch.zeros(layer.out_features, rank, device=device))
        nn.init.normal_(self.lora_down, std=layer.in_features**-0.5)

    def forward(self, input: Tensor) -> Tensor:
        """[..., in] to [..., out]."""
        change = nn.functional.linear(nn.functional.linear(input, self.lora_down), self.lora_up)
        return super().forward(input) + change


def is_lora_key(name: str) -> bool:
    """True for the matrices that LoRA adds."""
    return name.endswith((_DOWN, _UP))


def lora_rank(shapes: Shapes) -> int | None:
    """Of the LoRA among these tensors; None: there is none."""
    return next((shape[0] for name, shape in shapes.items() if name.endswith(_DOWN)), None)


def add_lora(transformer: Transformer, rank: int) -> None:
    """Gives every block's self-attention and feed-forward a LoRA, in place.

    Not the attention to text, which is of one fixed caption. The random part is drawn from torch's
    global generator.
    """
    for block in transformer.blocks:
        for part in (block.attn1, block.ff):
            for parent in list(part.modules()):
                for name, layer in list(parent.named_children()):
                    if isinstance(layer, nn.Linear):
                        setattr(parent, name, LoraLinear(layer, rank))


def lora_parameters(transformer: Transformer) -> list[nn.Parameter]:
    """The matrices that were added."""
    return [p for name, p in transformer.named_parameters() if is_lora_key(name)]


class MergedSource:
    """A base with a LoRA merged in, each weight when it is read."""

    def __init__(self, base: TensorSource, lora: TensorSource) -> None:
        """`lora` has both matrices of each layer that it changes; what else it has is not read."""
        self._base, self._lora = base, lora
        self.shapes: Shapes = base.shapes

    def read(self, name: str) -> Tensor:
        """See `TensorSource`."""
        weight = self._base.read(name)
        layer = name.removesuffix(".weight")
        if layer == name or layer + _UP not in self._lora.shapes:
            return weight
        return torch.addmm(weight, self._lora.read(layer + _UP), self._lora.read(layer + _DOWN))
