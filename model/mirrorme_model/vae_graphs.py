"""The VAE's two engines as modules to export: their inputs and outputs are the engines' tensors.

They hold copies of the weights, rearranged for speed; the VAE itself stays as it is.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from mirrorme_model.face_flow import bend
from mirrorme_model.hand_layer import HandLayer, lay_hands
from mirrorme_model.vae import VideoVae
from mirrorme_model.vae_layers import fold_frames
from mirrorme_model.video_encoder import patchify

HALF_RANGE = 127.5
"""-1 to 1 times this, plus this, is 0 to 255."""


class IdentityEncoderGraph(nn.Module):
    """`image` uint8 `[B, H, W, 3]` to `identity` float32 `[B, C, H / 32, W / 32]`, normalised."""

    def __init__(self, vae: VideoVae) -> None:
        super().__init__()
        self.patch_px = vae.config.patch_px
        self.encoder = None if vae.encoder is None else vae.encoder.for_pictures()
        self.scale = copy.deepcopy(vae.scale)
        self.basis = copy.deepcopy(vae.basis)
        self.cue_channels = vae.config.cue_channels

    def forward(self, image: Tensor) -> Tensor:
        """Encodes pictures."""
        pixels = image.to(torch.float32) / HALF_RANGE - 1
        pixels = pixels.permute(0, 3, 1, 2)
        means: list[Tensor] = []
        if self.encoder is not None:
            means.append(self.encoder(pixels)[0])
        if self.basis is not None:
            means.append(self.basis.encode(patchify(pixels, self.patch_px)))
        pictured = self.scale.normalize(sum(means[1:], means[0]))
        # A portrait's face is at rest, and its hands are not given.
        return nn.functional.pad(pictured, (0, 0, 0, 0, 0, self.cue_channels))


class DecoderGraph(nn.Module):
    """`latents` `[B, D + Tc + L, C, h, w]`, normalised, to `frames` uint8 `[B, 8 Tc, H, W, 3]`."""

    def __init__(self, vae: VideoVae) -> None:
        super().__init__()
        self.vae = copy.deepcopy(vae)
        del self.vae.encoder
        _give_bytes(self.vae)

    def forward(self, latents: Tensor) -> Tensor:
        """Decodes chunks."""
        drawn = self.vae.draw_chunk(latents.transpose(1, 2))
        num_frames, height, width = drawn.patches.shape[2:]
        p = self.vae.config.patch_px
        # Clamped before it is moved, so that runtimes can join it with the convolution.
        patches = fold_frames(drawn.patches).clamp(0.0, 2 * HALF_RANGE)
        if drawn.flow is None and drawn.paint is None:
            x = patches.permute(0, 2, 3, 1).reshape(-1, height, width, p, 3 * p).transpose(2, 3)
        else:
            x = nn.functional.pixel_shuffle(patches, p)
            if drawn.flow is not None:
                x = bend(x, fold_frames(drawn.flow))
            if drawn.paint is not None and drawn.hands is not None:
                x = lay_hands(x, patches, fold_frames(drawn.paint), drawn.hands.flatten(0, 1))
                x = x.clamp(0.0, 2 * HALF_RANGE)
            x = x.permute(0, 2, 3, 1)
        x = x.reshape(-1, num_frames, p * height, p * width, 3)
        return x.round().to(torch.uint8)


@torch.no_grad()
def _give_bytes(vae: VideoVae) -> None:
    """Makes patches of 0 to 255, their channels in the order row, column, colour; colour first
    where pixels are laid out before that, which runtimes do colour by colour."""
    p = vae.config.patch_px
    config = vae.config.decoder
    laid_out = config is not None and (config.flow or config.hand_layer)
    order = torch.arange(3 * p * p).reshape(3, p, p)
    order = order.permute((0, 2, 1) if laid_out else (2, 1, 0)).flatten()
    vae.seam_step *= HALF_RANGE
    offset: Tensor | None = None
    if vae.basis is not None:
        for values in (vae.basis.weight, vae.basis.mean):
            channels = values.unflatten(-1, (-1, len(order)))[..., order]
            values.copy_(channels.flatten(-2) * HALF_RANGE)
        offset = vae.basis.mean
    if vae.decoder is not None:
        conv = vae.decoder.conv_out.conv
        conv.weight.copy_(conv.weight[order] * HALF_RANGE)
        assert conv.bias is not None
        conv.bias.copy_(conv.bias[order] * HALF_RANGE)
        # Rather than to the basis: what lies outside of the decoder's linear input stays grey.
        offset = conv.bias
        if vae.decoder.hand_layer is not None:
            for values in vae.decoder.hand_layer.output.conv.parameters():
                values[: -HandLayer.CHANNELS[-1]] *= HALF_RANGE  # all but the logit
        if vae.decoder.linear_in is not None:
            weight = vae.decoder.linear_in.conv.weight
            weight.copy_(weight[:, order] / HALF_RANGE)
    assert offset is not None
    offset += HALF_RANGE
