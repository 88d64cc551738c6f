"""The causal video encoder: frames to the mean and log variance of latents.

Source: LTX-Video (arXiv 2501.00103), checkpoints 0.9.5 to 0.9.8, with the published module names.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from mirrorme_model.vae_config import EncoderConfig, VaeConfig
from mirrorme_model.vae_layers import (
    FrameConv,
    ResBlock,
    ResStage,
    SpaceToDepth,
    TemporalConv,
    init_conv,
    make_activation,
    make_conv,
    make_norm,
)

RESIDUAL_GAIN = 0.3


class VideoEncoder(nn.Module):
    """Clips of 1 + 8k frames to 1 + k latent frames; no latent sees a later frame."""

    def __init__(self, config: VaeConfig, c: EncoderConfig) -> None:
        super().__init__()
        self.patch_px = config.patch_px
        self.conv_in = make_conv(
            3 * config.patch_px**2, c.widths[0], c.input_temporal_kernel, "first"
        )
        self.down_blocks = nn.ModuleList()
        for stage, (width, blocks, kernel) in enumerate(
            zip(c.widths, c.num_blocks, c.temporal_kernels, strict=True)
        ):
            self.down_blocks.append(ResStage(width, blocks, kernel, "first", c.norm, c.activation))
            if stage < len(c.downsamplings):
                self.down_blocks.append(
                    SpaceToDepth(width, c.widths[stage + 1], c.downsamplings[stage], kernel)
                )
        self.norm_out = make_norm(c.norm)
        self.activation = make_activation(c.activation)
        # One log variance serves all channels.
        self.conv_out = make_conv(
            c.widths[-1], config.picture_channels + 1, c.temporal_kernels[-1], "first"
        )
        self._init_weights()

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Encodes.

        Args:
            frames: `[B, 3, 1 + 8k, H, W]` in -1 to 1. Of a `for_pictures` encoder: `[B, 3, H, W]`.

        Returns:
            Mean `[B, C, 1 + k, H / 32, W / 32]` and log variance `[B, 1, 1 + k, H / 32, W / 32]`,
            both without the frames' axis if the input has none.
        """
        x = self.conv_in(patchify(frames, self.patch_px))
        for block in self.down_blocks:
            x = block(x)
        x = self.conv_out(self.activation(self.norm_out(x)))
        return x[:, :-1], x[:, -1:]

    def for_pictures(self) -> VideoEncoder:
        """A copy for single frames that makes the same latents with 2-D convolutions alone.

        A clip of one frame is padded with copies of it, so that a temporal kernel acts as its sum.
        """
        encoder = copy.deepcopy(self)
        for module in list(encoder.modules()):
            for name, child in module.named_children():
                if isinstance(child, TemporalConv):
                    setattr(module, name, _sum_over_time(child))
        return encoder

    def _init_weights(self) -> None:
        for module in self.modules():
            if isinstance(module, ResBlock):
                init_conv(module.conv1, 2**0.5)
                init_conv(module.conv2, 2**0.5 * RESIDUAL_GAIN)
            elif isinstance(module, SpaceToDepth):
                init_conv(module.conv, 0.5)
        init_conv(self.conv_in, 1.0)
        init_conv(self.conv_out, 2**0.5)


def _sum_over_time(conv: TemporalConv) -> FrameConv:
    inner = conv.conv
    flat = FrameConv(inner.in_channels, inner.out_channels)
    with torch.no_grad():
        flat.conv.weight.copy_(inner.weight.sum(dim=2))
        if inner.bias is not None and flat.conv.bias is not None:
            flat.conv.bias.copy_(inner.bias)
    return flat.to(inner.weight.device)


def patchify(frames: Tensor, patch_px: int) -> Tensor:
    """Squares of `patch_px` pixels to channels, in LTX-Video's order: colour, column, row."""
    p = patch_px
    x = frames.unflatten(-2, (-1, p)).unflatten(-1, (-1, p))
    if frames.dim() == 4:
        return x.permute(0, 1, 5, 3, 2, 4).flatten(1, 3)
    return x.permute(0, 1, 6, 4, 2, 3, 5).flatten(1, 3)
