"""LTX-Video's transformer (arXiv 2501.00103), with per-token timesteps and keys that can be kept.

Holds the published base alone: no audio, hands or controls. Parameters are named as in LTX-Video's
single-file checkpoints, without their prefix `model.diffusion_model.`.

Tokens are [B, G, S, D]: G groups of S tokens that share one timestep (a latent frame, all clean
tokens, or single tokens). Attention sees all G·S of them.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from mirrorme_model.attention import Attention, KeysValues
from mirrorme_model.config import DitConfig
from mirrorme_model.rope import Rope

GATES = (2, 5)
"""Rows of a block's `scale_shift_table` that gate its self-attention and its feed-forward."""
_TIMESTEP_SCALE = 1000.0
_SINUSOID_WIDTH = 256


class Transformer(nn.Module):
    """The base: patch projection, time embedding, blocks, output projection."""

    def __init__(self, config: DitConfig, latent_channels: int) -> None:
        super().__init__()
        width = config.width
        self.patchify_proj = nn.Linear(latent_channels, width)
        self.adaln_single = AdaLayerNormSingle(width)
        self.caption_projection = (
            CaptionProjection(config.text.caption_channels, width) if config.text else None
        )
        self.transformer_blocks = nn.ModuleList(Block(config) for _ in range(config.num_layers))
        self.scale_shift_table = nn.Parameter(torch.randn(2, width) / width**0.5)
        self.proj_out = nn.Linear(width, latent_channels)

    @property
    def blocks(self) -> list[Block]:
        """The blocks, typed."""
        return [block for block in self.transformer_blocks if isinstance(block, Block)]

    def text_keys_values(self, caption: Tensor) -> list[KeysValues | None]:
        """One entry a block, from [B, tokens, caption_channels]; None where there is no text."""
        if self.caption_projection is None:
            return [None] * len(self.transformer_blocks)
        projected = self.caption_projection(caption)
        return [
            block.attn2.keys_values(projected) if block.attn2 else None for block in self.blocks
        ]

    def output(self, x: Tensor, embedded_time: Tensor) -> Tensor:
        """[B, G, S, D] after the last block to the velocity, [B, G, S, C]."""
        shift, scale = _modulation(self.scale_shift_table, embedded_time[:, :, None])
        x = nn.functional.layer_norm(x, x.shape[-1:], eps=1e-6)
        return self.proj_out(x * (1 + scale) + shift)

    def forward(
        self,
        latents: Tensor,
        timestep: Tensor,
        rope: Rope,
        caption: Tensor | None = None,
        caption_mask: Tensor | None = None,
    ) -> Tensor:
        """The published network, whole: all tokens attend to all.

        Args:
            latents: [B, G, S, C].
            timestep: [B, G], 0 (clean) to 1 (noise).
            rope: of the G·S tokens.
            caption: [B, tokens, caption_channels], where there is text.
            caption_mask: bool [B, tokens], True for tokens that count; None: all.

        Returns:
            Velocity (noise - data), [B, G, S, C].
        """
        x = self.patchify_proj(latents)
        modulation, embedded_time = self.adaln_single(timestep)
        text = [None] * len(self.blocks) if caption is None else self.text_keys_values(caption)
        text_mask = None if caption_mask is None else caption_mask[:, None, None]
        for block, block_text in zip(self.blocks, text, strict=True):
            own = block.modulation(modulation)
            modulated = block.modulated(x, own)
            context = block.attn1.keys_values(modulated, rope)
            x = block(x, modulated, own, rope, context, block_text, text_mask=text_mask)
        return self.output(x, embedded_time)


class Block(nn.Module):
    """Self-attention, text cross-attention, feed-forward; the first and last modulated by time."""

    def __init__(self, config: DitConfig) -> None:
        super().__init__()
        width = config.width
        self.attn1 = Attention(width, config.num_heads, config.head_dim, width)
        self.attn2 = (
            Attention(width, config.num_heads, config.head_dim, width) if config.text else None
        )
        self.ff = FeedForward(width)
        self.scale_shift_table = nn.Parameter(torch.randn(6, width) / width**0.5)

    def modulation(self, shared: Tensor) -> tuple[Tensor, ...]:
        """Six [B, G, 1, D] from the modulation that all blocks share, [B, G, 6·D]."""
        shared = shared.unflatten(-1, (6, -1))
        return _modulation(self.scale_shift_table, shared)

    def modulated(self, x: Tensor, modulation: tuple[Tensor, ...]) -> Tensor:
        """What the self-attention reads of tokens `x`: [B, G, S, D] to [B, G·S, D]."""
        shift, scale = modulation[:2]
        return (_norm(x) * (1 + scale) + shift).flatten(1, 2)

    def forward(
        self,
        x: Tensor,
        modulated: Tensor,
        modulation: tuple[Tensor, ...],
        rope: Rope,
        context: KeysValues,
        text: KeysValues | None,
        mask: Tensor | None = None,
        text_mask: Tensor | None = None,
    ) -> Tensor:
        """One block.

        Args:
            x: [B, G, S, D].
            modulated: of `x`.
            modulation: of these tokens' timesteps.
            rope: of `x`.
            context: all that `x` attends to, `x` itself included.
            text: of the caption.
            mask: of the self-attention, as in `Attention`.
            text_mask: of the cross-attention, as in `Attention`.
        """
        _, _, gate_msa, shift_mlp, scale_mlp, gate_mlp = modulation
        groups = x.shape[1:3]
        x = x + gate_msa * self.attn1(modulated, context, rope, mask).unflatten(1, groups)
        if self.attn2 is not None and text is not None:
            x = x + self.attn2(x.flatten(1, 2), text, mask=text_mask).unflatten(1, groups)
        return x + gate_mlp * self.ff(_norm(x) * (1 + scale_mlp) + shift_mlp)


class FeedForward(nn.Module):
    """Two layers, four times as wide between them, GELU (tanh)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.ModuleList(
            [GeluProjection(width), nn.Identity(), nn.Linear(4 * width, width)]
        )

    def forward(self, x: Tensor) -> Tensor:
        """[..., D] to the same."""
        for layer in self.net:
            x = layer(x)
        return x


class GeluProjection(nn.Module):
    """A layer and its activation; apart because checkpoints name them so."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Linear(width, 4 * width)

    def forward(self, x: Tensor) -> Tensor:
        """[..., D] to [..., 4·D]."""
        return nn.functional.gelu(self.proj(x), approximate="tanh")


class CaptionProjection(nn.Module):
    """Text encoder channels to the transformer's width."""

    def __init__(self, caption_channels: int, width: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(caption_channels, width)
        self.linear_2 = nn.Linear(width, width)

    def forward(self, caption: Tensor) -> Tensor:
        """[B, tokens, caption_channels] to [B, tokens, D]."""
        return self.linear_2(nn.functional.gelu(self.linear_1(caption), approximate="tanh"))


class AdaLayerNormSingle(nn.Module):
    """Time to the modulation that all blocks share (PixArt's adaLN-single)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.emb = nn.ModuleDict({"timestep_embedder": SinusoidEmbedding(width)})
        self.linear = nn.Linear(width, 6 * width)

    def forward(self, timestep: Tensor, extra: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Embeds timesteps.

        Args:
            timestep: [B, G], 0 to 1.
            extra: [B, G, D], added to the embedded time.

        Returns:
            modulation [B, G, 6·D], embedded time [B, G, D].
        """
        embedded = self.emb["timestep_embedder"](timestep * _TIMESTEP_SCALE)
        if extra is not None:
            embedded = embedded + extra
        return self.linear(nn.functional.silu(embedded)), embedded


class SinusoidEmbedding(nn.Module):
    """A number to [D]: sinusoids, then two layers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(_SINUSOID_WIDTH, width)
        self.linear_2 = nn.Linear(width, width)

    def forward(self, value: Tensor) -> Tensor:
        """[...] to [..., D]."""
        half = _SINUSOID_WIDTH // 2
        steps = torch.arange(half, dtype=torch.float32, device=value.device)
        angles = value.float()[..., None] * torch.exp(-math.log(10000) * steps / half)
        sinusoids = torch.cat((angles.cos(), angles.sin()), dim=-1)
        return self.linear_2(nn.functional.silu(self.linear_1(sinusoids.to(self.linear_1.weight))))


def _norm(x: Tensor) -> Tensor:
    return nn.functional.rms_norm(x, x.shape[-1:], eps=1e-6)


def _modulation(table: Tensor, shared: Tensor) -> tuple[Tensor, ...]:
    """Rows of `table` plus [B, G, rows or 1, D], each as [B, G, 1, D]."""
    return (table + shared).split(1, dim=2)
