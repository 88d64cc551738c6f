"""Attention with normalised queries and keys, as LTX-Video has it; keys and values can be kept."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from mirrorme_model.rope import Rope, rotate


class KeysValues(NamedTuple):
    """What attention needs to know of the tokens attended to."""

    keys: Tensor
    """[B, heads, T, head_dim], normalised and rotated."""
    values: Tensor
    """[B, heads, T, head_dim]."""

    def then(self, later: KeysValues) -> KeysValues:
        """These tokens, and `later` ones after them."""
        return KeysValues(
            torch.cat((self.keys, later.keys), dim=2),
            torch.cat((self.values, later.values), dim=2),
        )


class Attention(nn.Module):
    """Multi-head attention; RMS norms of queries and keys over the full width (arXiv 2501.00103).

    Parameters are named as in LTX-Video's checkpoints.
    """

    def __init__(self, width: int, num_heads: int, head_dim: int, context_width: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        inner = num_heads * head_dim
        self.to_q = nn.Linear(width, inner)
        self.to_k = nn.Linear(context_width, inner)
        self.to_v = nn.Linear(context_width, inner)
        self.to_out = nn.ModuleList([nn.Linear(inner, width)])
        self.q_norm = nn.RMSNorm(inner, eps=1e-5)
        self.k_norm = nn.RMSNorm(inner, eps=1e-5)

    def keys_values(self, context: Tensor, rope: Rope | None = None) -> KeysValues:
        """What others may attend to: `context` is [B, T, context_width]."""
        keys = self.k_norm(self.to_k(context))
        if rope is not None:
            keys = rotate(keys, rope)
        return KeysValues(self._heads(keys), self._heads(self.to_v(context)))

    def forward(
        self, x: Tensor, context: KeysValues, rope: Rope | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """Attends from `x` to `context`.

        Args:
            x: [B, T, width].
            context: of the tokens attended to.
            rope: of `x`.
            mask: bool or added to scores, broadcast to [B, heads, T, tokens attended to].

        Returns:
            [B, T, width].
        """
        queries = self.q_norm(self.to_q(x))
        if rope is not None:
            queries = rotate(queries, rope)
        attended = nn.functional.scaled_dot_product_attention(
            self._heads(queries), context.keys, context.values, attn_mask=mask
        )
        return self.to_out[0](attended.transpose(1, 2).flatten(2))

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
