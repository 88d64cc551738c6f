"""The video VAE: frames to normalised latents and back.

All latents that go in or out are normalised: the per-channel statistics are applied inside.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from mirrorme_model.face_flow import FLOW_SEAM_STEP, bend
from mirrorme_model.hand_cues import told_hands
from mirrorme_model.hand_layer import lay_shown_hands
from mirrorme_model.latent_scale import LatentScale
from mirrorme_model.patch_basis import PatchBasis
from mirrorme_model.vae_config import FRAMES_PER_LATENT, SPATIAL_FACTOR, VaeConfig
from mirrorme_model.vae_layers import fold_frames, unfold_frames
from mirrorme_model.video_decoder import Cues, Drawn, VideoDecoder, unpatchify
from mirrorme_model.video_encoder import VideoEncoder, patchify

LOG_VARIANCE_RANGE = (-30.0, 20.0)


class Posterior(NamedTuple):
    """Normal distributions of normalised latents."""

    mean: Tensor
    """`[B, C, 1 + k, h, w]`"""
    log_variance: Tensor
    """`[B, C, 1 + k, h, w]`"""


class VideoVae(nn.Module):
    """Encoder, decoder and latent statistics of one checkpoint."""

    def __init__(self, config: VaeConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = None if config.encoder is None else VideoEncoder(config, config.encoder)
        self.decoder = None if config.decoder is None else VideoDecoder(config, config.decoder)
        self.scale = LatentScale(config)
        self.basis = PatchBasis(config) if config.patch_basis else None
        self.seam_step = config.largest_seam_step

    def encode(self, frames: Tensor) -> Posterior:
        """`[B, 3, 1 + 8k, H, W]` in -1 to 1 to the distribution of `[B, C, 1 + k, h, w]`, without
        those of face and hands, which are not read from pixels.

        The first frame makes a latent by itself, as a portrait does; each later latent is of 8.

        Raises:
            ValueError: if frames or sides do not fit the grid.
        """
        num_frames, height, width = frames.shape[2:]
        if num_frames % FRAMES_PER_LATENT != 1:
            raise ValueError(f"a clip has {num_frames} frames: want 1 + {FRAMES_PER_LATENT} k")
        if height % SPATIAL_FACTOR or width % SPATIAL_FACTOR:
            raise ValueError(
                f"frames are {width} x {height}: want multiples of {SPATIAL_FACTOR} pixels"
            )
        mean, log_variance = self.raw_latents(frames)
        log_variance = log_variance.clamp(*LOG_VARIANCE_RANGE).expand_as(mean)
        std = self.scale.std[:, None, None, None].to(mean.dtype)
        return Posterior(self.scale.normalize(mean), log_variance - 2 * std.log())

    def raw_latents(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Mean `[B, C, 1 + k, h, w]`, not normalised, and log variance, which broadcasts to it."""
        means: list[Tensor] = []
        log_variance = frames.new_full((1, 1, 1, 1, 1), LOG_VARIANCE_RANGE[0])
        if self.encoder is not None:
            mean, log_variance = self.encoder(frames)
            means.append(mean)
        if self.basis is not None:
            means.append(self.basis.encode(patchify(frames, self.config.patch_px)))
        return sum(means[1:], means[0]), log_variance

    def decode(self, latents: Tensor) -> Tensor:
        """A whole clip: `[B, C, 1 + k, h, w]` to `[B, 3, 1 + 8k, H, W]`, about -1 to 1.

        The first latent stands for a single frame; each later one makes 8. Latents may lack the
        channels of face and hands: the face is at rest then, and hands are not told.
        """
        pictured, cues = self._parts(latents)
        x = self.scale.to_decoder(pictured)
        linear = None if self.basis is None else self.basis.decode(x)
        drawn = None if self.decoder is None else self.decoder(x, linear, cues)
        made = _sum(drawn, None if linear is None else linear[:, :, FRAMES_PER_LATENT - 1 :])
        if self.seam_step and latents.shape[2] > 1:
            made = self._smooth(made, with_first=True)
        return self._finished(made)

    def decode_chunk(self, latents: Tensor) -> Tensor:
        """Part of a clip: `[B, C, D + Tc + L, h, w]` to its middle's `[B, 3, 8 * Tc, H, W]`.

        D and L are the config's `context_latents` and `lookahead_latents`. At the start of a clip
        the first latent stands for those before it. With a causal decoder, or none beside the
        linear path, chunks joined equal the whole clip, whatever their lengths.
        """
        return self._finished(self.draw_chunk(latents))

    def draw_chunk(self, latents: Tensor) -> Drawn:
        """As `decode_chunk`, before pixels are laid out and bent and hands laid over them."""
        pictured, cues = self._parts(latents)
        x = self.scale.to_decoder(pictured)
        before, lead = self.config.context_latents, self.config.lead_frames
        linear = None if self.basis is None else self.basis.decode(x[:, :, before:])
        if self.basis is not None and linear is not None and lead:
            last = self.basis.decode(x[:, :, before - 1 : before], last_frames=lead)
            linear = torch.cat([last, linear], dim=2)
        drawn = None
        if self.decoder is not None:
            drawn = self.decoder.draw_window(x, linear, lead, cues)
        made = _sum(drawn, linear)
        return self._smooth(made) if lead else made

    def _smooth(self, drawn: Drawn, *, with_first: bool = False) -> Drawn:
        """Later frames, each after the one before it; the first stays as it is, or is left out."""

        def smoothed(frames: Tensor, largest_step: float) -> Tensor:
            made = smooth_seams(frames, largest_step)
            return torch.cat([frames[:, :, :1], made], dim=2) if with_first else made

        later = drawn if with_first else drawn.from_frame(1)
        return later._replace(
            patches=smoothed(drawn.patches, self.seam_step),
            flow=None if drawn.flow is None else smoothed(drawn.flow, FLOW_SEAM_STEP),
        )

    def _finished(self, drawn: Drawn) -> Tensor:
        """`[B, 3, T, H, W]`."""
        frames = fold_frames(unpatchify(drawn.patches, self.config.patch_px))
        if drawn.flow is not None:
            frames = bend(frames, fold_frames(drawn.flow))
        if drawn.paint is not None and drawn.hands is not None:
            patches, paint = fold_frames(drawn.patches), fold_frames(drawn.paint)
            frames = lay_shown_hands(frames, patches, paint, drawn.hands.flatten(0, 1))
        return unfold_frames(frames, len(drawn.patches))

    def _parts(self, latents: Tensor) -> tuple[Tensor, Cues]:
        """`[B, C, F, h, w]` to the channels of pictures and what the others tell."""
        config = self.config
        if not config.cue_channels:
            return latents, Cues()
        pictured, cues = latents.tensor_split((config.picture_channels,), dim=1)
        if not cues.shape[1]:
            cues = pictured.new_zeros((1, 1, 1, 1, 1)).expand(
                len(pictured), config.cue_channels, *pictured.shape[2:]
            )
        face, hands = cues.tensor_split((config.face_channels,), dim=1)
        return pictured, Cues(
            face=face[..., 0, 0].transpose(1, 2) if config.face_channels else None,
            hands=told_hands(hands.transpose(1, 2)) if config.hand_channels else None,
        )


def _sum(drawn: Drawn | None, linear: Tensor | None) -> Drawn:
    """What the networks drew and what the linear path did, of which there is one at least."""
    if drawn is None:
        assert linear is not None
        return Drawn(linear)
    return drawn if linear is None else drawn._replace(patches=drawn.patches + linear)


def smooth_seams(frames: Tensor, largest_step: float) -> Tensor:
    """Spreads small steps between latents over the frames after them, as deblocking does in space.

    Each frame of a latent is made with weights of its own, and latents are guessed one by one, so
    that what stands still would jump a little with every new latent. A latent's last frame stays.

    Args:
        frames: [B, C, 1 + 8k, H, W], first the last frame of the latent before.
        largest_step: of a pixel; of what is larger so much is spread.

    Returns:
        [B, C, 8k, H, W]
    """
    shares = torch.arange(FRAMES_PER_LATENT - 1, -1, -1, device=frames.device) / FRAMES_PER_LATENT
    last, latents = frames[:, :, :1], frames[:, :, 1:].split(FRAMES_PER_LATENT, dim=2)
    made: list[Tensor] = []
    # One by one, without a dimension of their own: runtimes then leave out what only turns them.
    for latent in latents:
        step = (last - latent[:, :, :1]).clamp(-largest_step, largest_step)
        made.append(latent + step * shares[:, None, None])
        last = latent[:, :, -1:]
    return torch.cat(made, dim=2)
