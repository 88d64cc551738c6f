"""Given hands, sketched for the decoder at the place where they are.

Latents of a small model say only roughly how fingers lie. A sketch says it as a drawing does, so
that the decoder, which sees whose hands they are, can paint them. Models of published weights have
none.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from mirrorme_model.hand_cues import FINGERS
from mirrorme_model.vae_config import (
    FRAMES_PER_LATENT,
    NUM_HANDS,
    NUM_KEYPOINTS,
    SKETCH_CELL_PX,
    SKETCHES_PER_LATENT,
    SPATIAL_FACTOR,
)

_WIDTH_PX = 2.0
"""Standard deviation of a stroke."""
_AT_WRIST = 0.5
"""A dot's strength there; 1 at fingertips."""
_SKETCHED = FRAMES_PER_LATENT // SKETCHES_PER_LATENT
_BONES = (
    *((0, finger[0]) for finger in FINGERS),
    *(bone for finger in FINGERS for bone in itertools.pairwise(finger)),
)
_BETWEEN = (1 / 3, 2 / 3)
"""Where strokes are dotted between two keypoints."""


class HandSketch(nn.Module):
    """Soft dots along the bones of both hands, brighter towards fingertips.

    Cells of 4 x 4 pixels, of every second frame of a latent, are channels of its token. Keypoints
    of visibility 0 leave no trace. No weights.
    """

    start: Tensor
    end: Tensor
    share: Tensor
    strength: Tensor

    def __init__(self) -> None:
        super().__init__()
        dots = [(point, point, 0.0) for point in range(NUM_KEYPOINTS)]
        dots += [(*bone, share) for bone in _BONES for share in _BETWEEN]
        start, end = (torch.tensor([dot[i] for dot in dots]) for i in (0, 1))
        share = torch.tensor([dot[2] for dot in dots])
        along = torch.tensor([0.0, *([0.25, 0.5, 0.75, 1.0] * 5)])
        self.register_buffer("start", start, persistent=False)
        self.register_buffer("end", end, persistent=False)
        self.register_buffer("share", share[:, None], persistent=False)
        strength = _AT_WRIST + (1 - _AT_WRIST) * torch.lerp(along[start], along[end], share)
        self.register_buffer("strength", strength.repeat(NUM_HANDS)[:, None], persistent=False)

    def forward(self, keypoints: Tensor, height: int, width: int) -> Tensor:
        """Sketches hands.

        Args:
            keypoints: [B, 8·F, 2, 21, 3]: x and y in tokens from the picture's corner, visibility 0
                (not given) to 1.
            height: of the picture, in tokens.
            width: as `height`.

        Returns:
            [B, F, S, h, w], 0 where no hand is; S: cells of a token in the sketches of a latent.
        """
        keypoints = keypoints[:, _SKETCHED - 1 :: _SKETCHED]
        start, end = keypoints[:, :, :, self.start], keypoints[:, :, :, self.end]
        visibility = torch.minimum(start[..., 2:], end[..., 2:]).flatten(2, 3)
        dots = start[..., :2] + self.share * (end[..., :2] - start[..., :2])
        x, y = dots.flatten(2, 3).split(1, dim=-1)
        near_x = visibility * self.strength * _strokes(x, width)
        near_y = _strokes(y, height).transpose(2, 3)
        return _to_tokens(1 - torch.exp(-near_y @ near_x))


def _strokes(tokens: Tensor, count: int) -> Tensor:
    """`[..., 1]` places to how near cells of so many tokens are, `[..., cells]`."""
    cells = torch.arange(
        count * SPATIAL_FACTOR // SKETCH_CELL_PX, dtype=tokens.dtype, device=tokens.device
    )
    distance_px = tokens * SPATIAL_FACTOR - (cells + 0.5) * SKETCH_CELL_PX
    return torch.exp(-(distance_px / _WIDTH_PX).square() / 2)


def _to_tokens(cells: Tensor) -> Tensor:
    """`[B, 4·F, H, W]` to `[B, F, S, h, w]`."""
    by_latent = cells.unflatten(1, (-1, SKETCHES_PER_LATENT))
    return nn.functional.pixel_unshuffle(by_latent, SPATIAL_FACTOR // SKETCH_CELL_PX)


def to_cells(sketch: Tensor) -> Tensor:
    """`[B, F, S, h, w]` of tokens back to cells of sketched frames, `[B, 4·F, H, W]`."""
    return nn.functional.pixel_shuffle(sketch, SPATIAL_FACTOR // SKETCH_CELL_PX).flatten(1, 2)
