"""Layers that the video encoder and decoder share.

Tensors are clips `[B, C, F, H, W]`. Layers that see one frame at a time also take frames folded
into the batch, `[B * F, C, H, W]`, which is what runs fast on CPUs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from mirrorme_model.vae_config import Activation, Downsampling, Norm

TimePadding: TypeAlias = Literal["first", "both", "none"]
"""What stands outside the clip: copies of the first frame before it (causal), copies of the first
and last frames, or nothing, so that the result is shorter by `kernel - 1` frames (causal)."""

PIXEL_NORM_EPS = 1e-8
TIMESTEP_CHANNELS = 256


class TemporalConv(nn.Module):
    """3 x 3 convolution in space, `temporal_kernel` in time. Zeros stand outside the picture."""

    def __init__(
        self, in_channels: int, out_channels: int, temporal_kernel: int, padding: TimePadding
    ) -> None:
        super().__init__()
        self.padding = padding
        self.conv = nn.Conv3d(in_channels, out_channels, (temporal_kernel, 3, 3), padding=(0, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Clips to clips."""
        outside = self.conv.kernel_size[0] - 1
        if self.padding == "first":
            x = torch.cat([x[:, :, :1]] * outside + [x], dim=2)
        elif self.padding == "both":
            half = outside // 2
            x = torch.cat([x[:, :, :1]] * half + [x] + [x[:, :, -1:]] * half, dim=2)
        return self.conv(x)


class FrameConv(nn.Module):
    """3 x 3 convolution of each frame by itself: a TemporalConv with a temporal kernel of 1."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Clips to clips, or folded frames to folded frames."""
        if x.dim() == 4:
            return self.conv(x)
        return unfold_frames(self.conv(fold_frames(x)), x.shape[0])


Conv: TypeAlias = TemporalConv | FrameConv


def make_conv(
    in_channels: int, out_channels: int, temporal_kernel: int, padding: TimePadding
) -> Conv:
    """The convolution for a temporal kernel."""
    if temporal_kernel == 1:
        return FrameConv(in_channels, out_channels)
    return TemporalConv(in_channels, out_channels, temporal_kernel, padding)


class PixelNorm(nn.Module):
    """Divides each pixel by the root mean square of its channels. No weights."""

    def forward(self, x: Tensor) -> Tensor:
        """Any `[B, C, ...]`."""
        # Not `square()`: runtimes are given a power then, which is several times slower.
        return x * torch.rsqrt((x * x).mean(dim=1, keepdim=True) + PIXEL_NORM_EPS)


def make_norm(kind: Norm) -> nn.Module:
    """The normalisation of a kind."""
    match kind:
        case "pixel":
            return PixelNorm()
        case "none":
            return nn.Identity()


def make_activation(kind: Activation) -> Callable[[Tensor], Tensor]:
    """The activation of a kind."""
    match kind:
        case "silu":
            return functional.silu
        case "relu":
            return functional.relu


class TimestepEmbedder(nn.Module):
    """Sinusoids of a timestep through two linear layers, as in PixArt-alpha (arXiv 2310.00426)."""

    def __init__(self, out_channels: int) -> None:
        super().__init__()
        self.timestep_embedder = nn.ModuleDict(
            {
                "linear_1": nn.Linear(TIMESTEP_CHANNELS, out_channels),
                "linear_2": nn.Linear(out_channels, out_channels),
            }
        )

    def forward(self, timestep: Tensor) -> Tensor:
        """Timesteps `[B]` in 0 to 1000 to `[B, out_channels]`."""
        half = TIMESTEP_CHANNELS // 2
        index = torch.arange(half, dtype=torch.float32, device=timestep.device)
        angles = timestep.float()[:, None] * torch.exp(index * (-math.log(10000) / half))
        waves = torch.cat([angles.cos(), angles.sin()], dim=1)
        first = self.timestep_embedder["linear_1"]
        return self.timestep_embedder["linear_2"](functional.silu(first(waves.to(timestep.dtype))))


class ResBlock(nn.Module):
    """Two convolutions, each after normalisation and activation, added to the input.

    A conditioned block shifts and scales what is normalised. Convolutions that take frames off the
    front of the clip take them off the sum's other side too.
    """

    def __init__(
        self,
        width: int,
        temporal_kernel: int,
        padding: TimePadding,
        norm: Norm,
        activation: Activation,
        conditioned: bool = False,
    ) -> None:
        super().__init__()
        self.norm = make_norm(norm)
        self.activation = make_activation(activation)
        self.conv1 = make_conv(width, width, temporal_kernel, padding)
        self.conv2 = make_conv(width, width, temporal_kernel, padding)
        self.scale_shift_table = (
            nn.Parameter(torch.randn(4, width) / width**0.5) if conditioned else None
        )

    def forward(self, x: Tensor, modulation: Tensor | None = None) -> Tensor:
        """Clips or folded frames; `modulation` `[1, 4, width]` is shift, scale, shift, scale."""
        h, inner = self.norm(x), None
        if self.scale_shift_table is not None and modulation is not None:
            shift, scale, *inner = (modulation + self.scale_shift_table)[
                ..., None, None, None
            ].unbind(1)
            h = h * (1 + scale) + shift
        h = self.norm(self.conv1(self.activation(h)))
        if inner is not None:
            h = h * (1 + inner[1]) + inner[0]
        h = self.conv2(self.activation(h))
        if x.dim() == 5:
            x = x[:, :, x.shape[2] - h.shape[2] :]
        return x + h


class ResStage(nn.Module):
    """Residual blocks of one width, with the timestep's embedding that they share."""

    def __init__(
        self,
        width: int,
        num_blocks: int,
        temporal_kernel: int,
        padding: TimePadding,
        norm: Norm,
        activation: Activation,
        conditioned: bool = False,
    ) -> None:
        super().__init__()
        self.time_embedder = TimestepEmbedder(4 * width) if conditioned else None
        self.res_blocks = nn.ModuleList(
            ResBlock(width, temporal_kernel, padding, norm, activation, conditioned)
            for _ in range(num_blocks)
        )

    def forward(self, x: Tensor, timestep: Tensor | None = None) -> Tensor:
        """Clips or folded frames; `timestep` `[1]` in 0 to 1000."""
        modulation = None
        if self.time_embedder is not None and timestep is not None:
            modulation = self.time_embedder(timestep).unflatten(1, (4, -1))
        for block in self.res_blocks:
            x = block(x, modulation)
        return x


class SpaceToDepth(nn.Module):
    """Downsampling: 2 positions in time, or 2 x 2 in space, or both, become channels.

    The means of the input's groups of channels are added. The first frame counts twice in time, so
    that 1 + 2k frames become 1 + k.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kind: Downsampling,
        temporal_kernel: int,
    ) -> None:
        super().__init__()
        self.time = 1 if kind == "spatial" else 2
        self.space = 1 if kind == "temporal" else 2
        self.out_channels = out_channels
        factor = self.time * self.space * self.space
        self.conv = make_conv(in_channels, out_channels // factor, temporal_kernel, "first")

    def forward(self, x: Tensor) -> Tensor:
        """Clips, or single frames `[B, C, H, W]`."""
        h = self.conv(x)
        if x.dim() == 4:
            return self._join(h[:, :, None], x[:, :, None])[:, :, 0]
        return self._join(h, x)

    def _join(self, h: Tensor, x: Tensor) -> Tensor:
        if self.time == 2:
            h, x = (torch.cat([clip[:, :, :1], clip], dim=2) for clip in (h, x))
        h, x = self._to_channels(h), self._to_channels(x)
        return h + x.unflatten(1, (self.out_channels, -1)).mean(dim=2)

    def _to_channels(self, x: Tensor) -> Tensor:
        batch, channels, frames, height, width = x.shape
        t, s = self.time, self.space
        x = x.reshape(batch, channels, frames // t, t, height // s, s, width // s, s)
        x = x.permute(0, 1, 3, 5, 7, 2, 4, 6)
        return x.reshape(batch, channels * t * s * s, frames // t, height // s, width // s)


class DepthToSpace(nn.Module):
    """Upsampling by 2 in time, height and width from channels.

    With a temporal kernel of 1 it takes folded frames, and its channels lie in the order time, row,
    column, channel: both keep long runs together in memory. Else it takes clips, and the order is
    LTX-Video's: channel, time, row, column.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        temporal_kernel: int,
        padding: TimePadding,
        residual: bool,
    ) -> None:
        super().__init__()
        self.conv = make_conv(in_channels, 8 * out_channels, temporal_kernel, padding)
        self.residual_repeats = 8 * out_channels // in_channels if residual else 0

    def forward(self, x: Tensor) -> Tensor:
        """Clips `[B, C, F, H, W]` to twice the frames, or folded frames to folded frames."""
        h = self.conv(x)
        shuffle = _frames_from_channels if x.dim() == 4 else _clip_from_channels
        out = shuffle(h)
        if self.residual_repeats:
            if x.dim() == 5:
                x = x[:, :, x.shape[2] - h.shape[2] :]
            out = out + torch.cat([shuffle(x)] * self.residual_repeats, dim=1)
        return out


class FaceShift(nn.Module):
    """Scales and shifts channels by what the face code says of each frame; starts as no change."""

    def __init__(self, face_channels: int, width: int, frames_per_latent: int) -> None:
        super().__init__()
        self.shape = (frames_per_latent, 2, width)
        self.linear = nn.Linear(face_channels, frames_per_latent * 2 * width)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: Tensor, face: Tensor, num_frames: int) -> Tensor:
        """`[B, C, f, h, w]`, or its frames folded `[B f, C, h, w]`, to the same.

        The `num_frames`, f, are the last ones of `face`'s latents, `[B, F, E]`.
        """
        by_frame = self.linear(face).unflatten(2, self.shape).flatten(1, 2)[:, -num_frames:]
        by_frame = by_frame.flatten(0, 1) if x.dim() == 4 else by_frame.permute(0, 2, 3, 1)
        scale, shift = by_frame[..., None, None].unbind(1)
        return x * (1 + scale) + shift

    @torch.no_grad()
    def amplify(self, channels: list[int], gain: float) -> None:
        """Takes some of the face code's channels for `gain` times as much."""
        self.linear.weight[:, channels] *= gain


def _clip_from_channels(x: Tensor) -> Tensor:
    batch, channels, frames, height, width = x.shape
    x = x.reshape(batch, channels // 8, 2, 2, 2, frames, height, width)
    x = x.permute(0, 1, 5, 2, 6, 3, 7, 4)
    return x.reshape(batch, channels // 8, 2 * frames, 2 * height, 2 * width)


def _frames_from_channels(x: Tensor) -> Tensor:
    channels, height, width = x.shape[1:]
    x = x.permute(0, 2, 3, 1).reshape(-1, height, width, 2, 2, channels // 4)
    x = x.permute(0, 3, 1, 4, 2, 5).reshape(-1, 2 * height, 2 * width, channels // 8)
    return x.permute(0, 3, 1, 2)


def fold_frames(x: Tensor) -> Tensor:
    """`[B, C, F, H, W]` to `[B * F, C, H, W]`."""
    return x.transpose(1, 2).flatten(0, 1)


def unfold_frames(x: Tensor, batch: int) -> Tensor:
    """`[B * F, C, H, W]` to `[B, C, F, H, W]`."""
    return x.unflatten(0, (batch, x.shape[0] // batch)).transpose(1, 2)


@torch.no_grad()
def init_conv(conv: Conv, gain: float) -> None:
    """Random weights: inputs of mean square 1 give outputs of variance `gain ** 2`."""
    nn.init.kaiming_normal_(conv.conv.weight, nonlinearity="linear")
    conv.conv.weight.mul_(gain)
    if conv.conv.bias is not None:
        nn.init.zeros_(conv.conv.bias)
