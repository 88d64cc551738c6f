"""The video decoder: latents to frames, whole clips or chunk by chunk.

Source: LTX-Video (arXiv 2501.00103), checkpoints 0.9.5 to 0.9.8, whose decoder sees later latents
too; the light presets' decoder is causal. Module names are the published ones.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from mirrorme_model.face_flow import FaceFlow
from mirrorme_model.hand_layer import HandLayer
from mirrorme_model.hand_sketch import HandSketch, to_cells
from mirrorme_model.vae_config import (
    FRAMES_PER_LATENT,
    NUM_UPSAMPLINGS,
    SKETCH_CELL_PX,
    SKETCHES_PER_LATENT,
    SPATIAL_FACTOR,
    DecoderConfig,
    VaeConfig,
)
from mirrorme_model.vae_layers import (
    DepthToSpace,
    FaceShift,
    FrameConv,
    ResBlock,
    ResStage,
    TimePadding,
    TimestepEmbedder,
    fold_frames,
    init_conv,
    make_activation,
    make_conv,
    make_norm,
    unfold_frames,
)

RESIDUAL_GAIN = 0.3
OUTPUT_GAIN = 0.35
TIMESTEP_SCALE = 1000.0
_SKETCH_WIDTHS = (64, 32, 16, 16)
"""Hidden, of each stage."""
_FLOW_WIDTH = 32


class Cues(NamedTuple):
    """What the decoder is told besides pictures."""

    face: Tensor | None = None
    """[B, F, E]: face codes."""
    hands: Tensor | None = None
    """[B, 8·F, 2, 21, 3]: keypoints, x and y in tokens from the picture's corner."""

    def repeat_first(self, times: int) -> Cues:
        """The first latent's so many times before all."""
        face, hands = self
        if face is not None:
            face = torch.cat([*[face[:, :1]] * times, face], dim=1)
        if hands is not None:
            hands = torch.cat([*[hands[:, :FRAMES_PER_LATENT]] * times, hands], dim=1)
        return Cues(face, hands)


NO_CUES = Cues()


class Drawn(NamedTuple):
    """Frames as they are made: each square of pixels is still channels, nothing is bent yet, and no
    hand is laid over."""

    patches: Tensor
    """[B, 3 * p * p, T, h, w]: see `unpatchify`."""
    flow: Tensor | None = None
    """[B, 2, T, h, w]: see `FaceFlow`; None: a decoder without."""
    paint: Tensor | None = None
    """[B, 5, T, h, w]: see `HandLayer`; None: a decoder without."""
    hands: Tensor | None = None
    """[B, T, 2, 21, 3], as `Cues.hands`; None: as `paint`."""

    def from_frame(self, start: int) -> Drawn:
        """The same without the first frames."""
        flow = None if self.flow is None else self.flow[:, :, start:]
        paint = None if self.paint is None else self.paint[:, :, start:]
        hands = None if self.hands is None else self.hands[:, start:]
        return Drawn(self.patches[:, :, start:], flow, paint, hands)


class VideoDecoder(nn.Module):
    """Latents (not normalised, noise mixed in) to frames.

    A causal decoder computes its convolutions over the context that it is given and nothing else:
    every frame of context is dropped where no later layer needs it, so chunks equal the whole clip.
    One that is not causal repeats the window's first and last frames outside of it.
    """

    def __init__(self, config: VaeConfig, decoder: DecoderConfig) -> None:
        super().__init__()
        c = self.config = decoder
        self.patch_px = config.patch_px
        padding: TimePadding = "none" if c.causal else "both"
        conditioned = c.timestep is not None
        self.conv_in = make_conv(
            config.picture_channels, c.widths[0], c.input_temporal_kernel, padding
        )
        self.face_in = (
            nn.ModuleList(
                FaceShift(config.face_channels, width, 2**stage)
                for stage, width in enumerate(c.widths)
            )
            if config.face_channels
            else None
        )
        self.hands_in = (
            nn.ModuleDict({str(s): SketchInput(c.widths[s], s) for s in c.sketched_stages})
            if config.hand_channels
            else None
        )
        self.hand_sketch = HandSketch() if config.hand_channels else None
        self.up_blocks = nn.ModuleList()
        for stage, (width, blocks, kernel) in enumerate(
            zip(c.widths, c.num_blocks, c.temporal_kernels, strict=True)
        ):
            self.up_blocks.append(
                ResStage(width, blocks, kernel, padding, c.norm, c.activation, conditioned)
            )
            if stage < NUM_UPSAMPLINGS:
                self.up_blocks.append(
                    DepthToSpace(width, c.widths[stage + 1], kernel, padding, c.upsample_residual)
                )
        width = c.widths[-1]
        self.linear_in = FrameConv(3 * config.patch_px**2, width) if c.linear_input else None
        self.norm_out = make_norm(c.norm)
        self.activation = make_activation(c.activation)
        self.conv_out = make_conv(width, 3 * config.patch_px**2, c.temporal_kernels[-1], padding)
        self.flow = FaceFlow(config.face_channels, width, _FLOW_WIDTH) if c.flow else None
        self.hand_layer = HandLayer(width) if c.hand_layer else None
        self.last_time_embedder = TimestepEmbedder(2 * width) if conditioned else None
        self.last_scale_shift_table = (
            nn.Parameter(torch.randn(2, width) / width**0.5) if conditioned else None
        )
        self.timestep_scale_multiplier = (
            nn.Parameter(torch.tensor(TIMESTEP_SCALE)) if conditioned else None
        )
        self._init_weights()

    def forward(self, latents: Tensor, linear: Tensor | None = None, cues: Cues = NO_CUES) -> Drawn:
        """Decodes a whole clip: `[B, C, 1 + k, h, w]` to 1 + 8k frames in about -1 to 1.

        The first latent stands for one frame. A causal decoder sees it also before the clip.
        `linear`, `cues`: as in `draw_window`, of all latents.
        """
        if self.config.causal:
            before = self.config.context_latents
            window = torch.cat([*[latents[:, :, :1]] * before, latents], dim=2)
            drawn = self.draw_window(window, linear, cues=cues.repeat_first(before))
            return drawn.from_frame(FRAMES_PER_LATENT - 1)
        x, timestep = self.conv_in(latents), self._timestep(latents)
        for block in self.up_blocks:
            x = block(x)[:, :, 1:] if isinstance(block, DepthToSpace) else block(x, timestep)
        return Drawn(self.conv_out(self._features(x, timestep)))

    def draw_window(
        self,
        latents: Tensor,
        linear: Tensor | None = None,
        lead_frames: int = 0,
        cues: Cues = NO_CUES,
    ) -> Drawn:
        """A chunk, `[B, C, D + Tc + L, h, w]`, to its middle's `8 * Tc` frames.

        Args:
            latents: of the chunk and about it.
            linear: the linear path's patches of the frames made, where the config asks for them.
            lead_frames: of frames before the chunk so many are made as well, by a causal decoder
                that is given as much context as they need.
            cues: of the window's latents; each for configs with its channels, and only for them.
        """
        c = self.config
        before = c.context_with(lead_frames)
        frames = latents.shape[2] - before - c.lookahead_latents
        if frames < 1:
            raise ValueError(
                f"a window of {latents.shape[2]} latents has no chunk: want more than "
                f"{before} before and {c.lookahead_latents} after it"
            )
        timestep = self._timestep(latents)
        sketch = None
        if self.hand_sketch is not None and cues.hands is not None:
            sketch = self.hand_sketch(cues.hands, *latents.shape[3:])
        x = self.conv_in(latents)
        for index, block in enumerate(self.up_blocks):
            if isinstance(block, DepthToSpace):
                x = block(x)
                before, frames = 2 * before, 2 * frames
                continue
            needed = c.stage_context_frames(lead_frames)[index // 2]
            if x.dim() == 5:
                x, before = self._crop(x, needed, before, frames)
                if self._folds(index // 2):
                    x = fold_frames(x)
            elif before > needed:
                x = x.unflatten(0, (-1, before + frames))[:, before - needed :].flatten(0, 1)
                before = needed
            if index // 2 == NUM_UPSAMPLINGS and self.linear_in is not None and linear is not None:
                x = x + self.linear_in(fold_frames(linear))
            # Counted, so that exporters need not divide by the batch.
            shown = before + frames if x.dim() == 4 else x.shape[2]
            x = block(self._told(x, index // 2, cues.face, sketch, shown), timestep)
        x, made = self._features(x, timestep), lead_frames + frames
        patches, flow, paint, hands = self.conv_out(x), None, None, None
        if self.flow is not None and cues.face is not None:
            flow = self.flow(x, cues.face, made)
        if self.hand_layer is not None and cues.hands is not None:
            paint, hands = self.hand_layer(x), cues.hands[:, -made:]
        if x.dim() == 4:
            batch = latents.shape[0]
            return Drawn(
                unfold_frames(patches, batch),
                None if flow is None else unfold_frames(flow, batch),
                None if paint is None else unfold_frames(paint, batch),
                hands,
            )
        start = 0 if c.causal else before
        return Drawn(patches[:, :, start : start + made], flow, paint, hands)

    def amplify_face(self, channels: list[int], gain: float) -> None:
        """Takes what some of the face code's channels tell for `gain` times as much, everywhere."""
        for layer in self.modules():
            if isinstance(layer, FaceShift):
                layer.amplify(channels, gain)

    def _told(
        self, x: Tensor, stage: int, face: Tensor | None, sketch: Tensor | None, num_frames: int
    ) -> Tensor:
        if self.face_in is not None and face is not None:
            x = self.face_in[stage](x, face, num_frames)
        if self.hands_in is not None and sketch is not None and str(stage) in self.hands_in:
            x = self.hands_in[str(stage)](x, sketch, num_frames)
        return x

    def _crop(self, x: Tensor, needed: int, before: int, frames: int) -> tuple[Tensor, int]:
        """Drops context beyond the frames needed.

        `before` counts the context as if no convolution had taken any off; the second result is
        what is left of it.
        """
        if self.config.causal:
            return x[:, :, x.shape[2] - frames - needed :], needed
        after = x.shape[2] - before - frames
        left, right = min(before, needed), min(after, needed)
        return x[:, :, before - left : before + frames + right], left

    def _folds(self, stage: int) -> bool:
        return all(kernel == 1 for kernel in self.config.temporal_kernels[stage:])

    def _timestep(self, like: Tensor) -> Tensor | None:
        if self.timestep_scale_multiplier is None or self.config.timestep is None:
            return None
        timestep = torch.full((1,), self.config.timestep, dtype=like.dtype, device=like.device)
        return timestep * self.timestep_scale_multiplier

    def _features(self, x: Tensor, timestep: Tensor | None) -> Tensor:
        x = self.norm_out(x)
        if self.last_time_embedder is not None and timestep is not None:
            embedding = self.last_time_embedder(timestep).unflatten(1, (2, -1))
            shift, scale = (embedding + self.last_scale_shift_table)[..., None, None, None].unbind(
                1
            )
            x = x * (1 + scale) + shift
        return self.activation(x)

    def _init_weights(self) -> None:
        for module in self.modules():
            if isinstance(module, ResBlock):
                init_conv(module.conv1, 2**0.5)
                init_conv(module.conv2, 2**0.5 * RESIDUAL_GAIN)
            elif isinstance(module, DepthToSpace):
                init_conv(module.conv, 1.0)
        init_conv(self.conv_in, 1.0)
        if self.linear_in is not None:
            init_conv(self.linear_in, 1.0)
        init_conv(self.conv_out, OUTPUT_GAIN)


class SketchInput(nn.Module):
    """Adds what the hand sketch shows of each frame; starts as no change."""

    def __init__(self, width: int, stage: int) -> None:
        super().__init__()
        self._coarser = SPATIAL_FACTOR // SKETCH_CELL_PX // 2**stage
        # Either frames share a sketch, or a frame sees several.
        self._frames = max(1, 2**stage // SKETCHES_PER_LATENT)
        self._sketches = max(1, SKETCHES_PER_LATENT // 2**stage)
        hidden = _SKETCH_WIDTHS[stage]
        self.hidden = nn.Conv2d(self._sketches * self._coarser**2, hidden, 3, padding=1)
        self.output = nn.Conv2d(hidden, self._frames * width, 3, padding=1)
        for values in self.output.parameters():
            nn.init.zeros_(values)

    def forward(self, x: Tensor, sketch: Tensor, num_frames: int) -> Tensor:
        """As `FaceShift`; `sketch`: [B, F, S, h, w]."""
        cells = to_cells(sketch).unflatten(1, (-1, self._sketches))
        # Rounded up: a sketch is of more than one frame at the finest stage.
        cells = cells[:, -num_frames // self._frames :]
        seen = nn.functional.pixel_unshuffle(cells.flatten(0, 1), self._coarser)
        added = self.output(nn.functional.silu(self.hidden(seen)))
        by_frame = added.unflatten(1, (self._frames, -1)).flatten(0, 1)
        by_frame = by_frame.unflatten(0, (-1, cells.shape[1] * self._frames))[:, -num_frames:]
        return x + (by_frame.flatten(0, 1) if x.dim() == 4 else by_frame.transpose(1, 2))


def reads_face(name: str) -> bool:
    """Whether a weight of this name is of a layer that reads face codes."""
    return not {"face_in", "flow"}.isdisjoint(name.split("."))


def reads_hands(name: str) -> bool:
    """Whether a weight of this name is of a layer that draws hands by what is told of them."""
    return not {"hands_in", "hand_layer"}.isdisjoint(name.split("."))


def unpatchify(x: Tensor, patch_px: int) -> Tensor:
    """`[B, 3 * p * p, F, H, W]` to `[B, 3, F, p * H, p * W]`; the inverse of `patchify`."""
    p = patch_px
    batch, _, frames, height, width = x.shape
    x = x.reshape(batch, 3, p, p, frames, height, width).permute(0, 1, 4, 5, 3, 6, 2)
    return x.reshape(batch, 3, frames, p * height, p * width)
