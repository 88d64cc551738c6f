"""Hand keypoints to a bias on the chunk's tokens."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mirrorme_model.config import HandConfig, VideoConfig
from mirrorme_model.vae_config import FRAMES_PER_LATENT, NUM_HANDS, NUM_KEYPOINTS


class HandEncoder(nn.Module):
    """Draws keypoints softly at token resolution and embeds each token's view of them.

    Every token sees, of each keypoint of each of its 8 frames, how near it is and where it lies; so
    positions are finer than a token. Keypoints of visibility 0 leave no trace. The last layer
    starts at zero.
    """

    columns: Tensor
    rows: Tensor

    def __init__(self, config: HandConfig, video: VideoConfig, width: int) -> None:
        super().__init__()
        self._sigma_tokens = config.sigma_tokens
        columns = torch.arange(video.latent_width, dtype=torch.float32, device="cpu") + 0.5
        rows = torch.arange(video.latent_height, dtype=torch.float32, device="cpu") + 0.5
        self.register_buffer("columns", columns, persistent=False)
        self.register_buffer("rows", rows, persistent=False)
        num_features = 3 * FRAMES_PER_LATENT * NUM_HANDS * NUM_KEYPOINTS
        self.hidden = nn.Linear(num_features, config.hidden_width)
        self.output = nn.Linear(config.hidden_width, width)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def forward(self, keypoints: Tensor) -> Tensor:
        """Embeds hands.

        Args:
            keypoints: [B, 8·F, 2, 21, 3]: x and y from 0 to 1 over the frame, visibility 0 (not
                given) to 1.

        Returns:
            [B, F, h·w, D].
        """
        raster = self.raster(keypoints)
        return self.output(nn.functional.silu(self.hidden(raster.to(self.hidden.weight))))

    def raster(self, keypoints: Tensor) -> Tensor:
        """What each token sees: [B, 8·F, 2, 21, 3] to [B, F, h·w, features], all 0 for no hands."""
        num_points = FRAMES_PER_LATENT * NUM_HANDS * NUM_KEYPOINTS
        points = keypoints.reshape(keypoints.shape[0], -1, num_points, 3)
        x, y, visibility = points.split(1, dim=-1)
        offset_x = (x * len(self.columns) - self.columns) / self._sigma_tokens
        offset_y = (y * len(self.rows) - self.rows) / self._sigma_tokens
        near_x = visibility * torch.exp(-offset_x.square() / 2)
        near_y = torch.exp(-offset_y.square() / 2)
        # Now of shape B, F, features, h, w.
        near = near_y[..., :, None] * near_x[..., None, :]
        right = near_y[..., :, None] * (near_x * offset_x)[..., None, :]
        below = (near_y * offset_y)[..., :, None] * near_x[..., None, :]
        return torch.cat((near, right, below), dim=2).flatten(3).transpose(2, 3)
