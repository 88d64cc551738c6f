"""The VAE's layers: each way to compute one against another."""

import pytest
import torch
from mirrorme_model.vae_layers import (
    DepthToSpace,
    FrameConv,
    PixelNorm,
    ResBlock,
    TemporalConv,
    fold_frames,
    unfold_frames,
)
from torch import nn


def same_weights(make, *variants) -> list[nn.Module]:
    torch.manual_seed(0)
    modules = [make(variant) for variant in variants]
    for module in modules[1:]:
        module.load_state_dict(modules[0].state_dict())
    return modules


@pytest.mark.parametrize("kernel", [2, 3])
@torch.no_grad()
def test_what_is_computed_without_padding_is_the_end_of_the_padded(kernel: int) -> None:
    """Frames that see nothing outside the clip, and only those: so none is shifted."""
    x = torch.randn(2, 16, 9, 4, 4)
    makers = {
        1: lambda padding: TemporalConv(16, 8, kernel, padding),
        2: lambda padding: ResBlock(16, kernel, padding, "pixel", "silu"),
    }
    for num_convs, make in makers.items():
        padded, bare = same_weights(make, "first", "none")
        expected = padded(x)[:, :, num_convs * (kernel - 1) :]
        torch.testing.assert_close(bare(x), expected, atol=1e-5, rtol=1e-5)
    padded, bare = same_weights(
        lambda padding: DepthToSpace(16, 8, kernel, padding, residual=True), "first", "none"
    )
    torch.testing.assert_close(bare(x), padded(x)[:, :, 2 * (kernel - 1) :], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_padding_on_both_sides_is_symmetric_in_time() -> None:
    conv = TemporalConv(4, 4, 3, "both")
    x = torch.randn(1, 4, 6, 4, 4)
    forward = conv(x)
    conv.conv.weight.copy_(conv.conv.weight.flip(2))
    torch.testing.assert_close(conv(x.flip(2)).flip(2), forward, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_convolution_of_frames_is_one_with_a_temporal_kernel_of_1() -> None:
    flat, deep = FrameConv(8, 4), TemporalConv(8, 4, 1, "first")
    deep.conv.weight.copy_(flat.conv.weight[:, :, None])
    deep.conv.bias.copy_(flat.conv.bias)
    x = torch.randn(2, 8, 5, 6, 4)
    torch.testing.assert_close(flat(x), deep(x), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(unfold_frames(flat(fold_frames(x)), 2), flat(x))


@pytest.mark.parametrize("residual", [False, True])
@torch.no_grad()
def test_folded_upsampling_is_that_of_clips_with_its_channels_reordered(residual: bool) -> None:
    folded = DepthToSpace(16, 4, 1, "none", residual)
    clips = DepthToSpace(16, 4, 1, "none", residual)
    to_clip_order = torch.arange(32).reshape(2, 2, 2, 4).permute(3, 0, 1, 2).flatten()
    clips.conv.conv.weight.copy_(folded.conv.conv.weight[to_clip_order])
    clips.conv.conv.bias.copy_(folded.conv.conv.bias[to_clip_order])
    x = torch.randn(2, 16, 3, 4, 6)
    if residual:
        in_order = torch.arange(16).reshape(2, 2, 2, 2).permute(3, 0, 1, 2).flatten()
        clips.conv.conv.weight.copy_(clips.conv.conv.weight[:, in_order])
        expected = clips(x[:, in_order])
    else:
        expected = clips(x)
    frames = folded(fold_frames(x))
    assert frames.shape == (12, 4, 8, 12)
    torch.testing.assert_close(unfold_frames(frames, 2), expected, atol=1e-5, rtol=1e-5)


def test_pixel_norm() -> None:
    x = PixelNorm()(torch.randn(2, 16, 3, 4, 4) * 7)
    torch.testing.assert_close(x.square().mean(1), torch.ones(2, 3, 4, 4), atol=1e-5, rtol=0)
