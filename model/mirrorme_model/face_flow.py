"""Frames bent by what the face code says: brows, lips and lids are moved, not drawn anew.

How far a raised brow moves is much the same for all faces, and what is moved keeps its colours and
its sharpness: less to learn than how to draw each face anew.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mirrorme_model.vae_config import FRAMES_PER_LATENT
from mirrorme_model.vae_layers import FaceShift, FrameConv, init_conv

FLOW_UNIT_PX = 4.0
"""Pixels of a frame that count as 1."""
FLOW_SEAM_STEP = 0.25
"""As `VaeConfig.seam_step`, of the flow: a pixel of it is spread."""
_CODE_GAIN = 0.1
"""Of the first weights that read the code."""


class FaceFlow(nn.Module):
    """From where each cell of a frame takes its colours; starts as from itself."""

    def __init__(self, face_channels: int, width: int, hidden_width: int) -> None:
        super().__init__()
        self.hidden = FrameConv(width, hidden_width)
        self.face = FaceShift(face_channels, hidden_width, FRAMES_PER_LATENT)
        self.output = FrameConv(hidden_width, 2)
        init_conv(self.hidden, 2**0.5)
        # Not zero as well, or code and output would wait for each other.
        nn.init.normal_(self.face.linear.weight, std=_CODE_GAIN)
        for values in self.output.parameters():
            nn.init.zeros_(values)

    def forward(self, x: Tensor, face: Tensor, num_frames: int) -> Tensor:
        """As `FaceShift`, to `[B f, 2, h, w]` or `[B, 2, f, h, w]`: columns and rows further on, in
        FLOW_UNIT_PX."""
        x = self.face(self.hidden(x), face, num_frames)
        return self.output(nn.functional.silu(x))


def bend(frames: Tensor, flow: Tensor) -> Tensor:
    """Takes each pixel from where the flow says; outside stand the frame's own borders.

    Args:
        frames: [N, 3, H, W].
        flow: [N, 2, h, w], columns and rows in FLOW_UNIT_PX; H and W are multiples of h and w.
    """
    height, width = frames.shape[2:]
    scale = (height // flow.shape[2], width // flow.shape[3])
    moved = nn.functional.interpolate(
        flow * FLOW_UNIT_PX, scale_factor=tuple(map(float, scale)), mode="bilinear"
    )
    # -1 to 1 from border to border; small numbers, which half precision holds better than pixels.
    column = _middles(width, frames) + moved[:, 0] * (2 / width)
    row = _middles(height, frames)[:, None] + moved[:, 1] * (2 / height)
    grid = torch.stack([column, row], dim=-1)
    return nn.functional.grid_sample(frames, grid, padding_mode="border", align_corners=False)


def _middles(count: int, like: Tensor) -> Tensor:
    return (torch.arange(count, device=like.device, dtype=like.dtype) + 0.5) * (2 / count) - 1
