"""Facial controls and guidance strength, as additions to the time embedding."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mirrorme_model.config import ControlsConfig
from mirrorme_model.transformer import SinusoidEmbedding
from mirrorme_model.vae_config import FRAMES_PER_LATENT

_GUIDANCE_SCALE = 100.0


class ControlEmbedding(nn.Module):
    """Values and weights of all controls of a latent frame; the last layer starts at zero."""

    scale: Tensor

    def __init__(self, config: ControlsConfig, width: int) -> None:
        super().__init__()
        self.register_buffer("scale", 1 / self.reach(config), persistent=False)
        num_features = 2 * FRAMES_PER_LATENT * len(config.controls)
        self.hidden = nn.Linear(num_features, config.hidden_width)
        self.output = nn.Linear(config.hidden_width, width)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    @staticmethod
    def reach(config: ControlsConfig) -> Tensor:
        """`[controls]`: the largest value of each, its sign aside."""
        reach = [max(abs(c.range.min), abs(c.range.max)) for c in config.controls]
        return torch.tensor(reach, device="cpu")

    def forward(self, values: Tensor, weights: Tensor) -> Tensor:
        """Embeds controls.

        Args:
            values: [B, 8·F, controls], in the config's order and units.
            weights: [B, 8·F, controls], 0 (not given, whatever the value) to 1.

        Returns:
            [B, F, D].
        """
        features = torch.cat((values * self.scale * weights, weights), dim=-1)
        features = features.reshape(features.shape[0], -1, self.hidden.in_features)
        return self.output(nn.functional.silu(self.hidden(features.to(self.hidden.weight))))

    @torch.no_grad()
    def amplify(self, control: int, gain: float) -> None:
        """Takes values of one control, by its place in the config, for `gain` times as much."""
        by_frame = self.hidden.weight.unflatten(1, (FRAMES_PER_LATENT, 2, -1))
        by_frame[:, :, 0, control] *= gain


class GuidanceEmbedding(nn.Module):
    """The strength of distilled guidance; the last layer starts at zero."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.embedder = SinusoidEmbedding(width)
        nn.init.zeros_(self.embedder.linear_2.weight)
        nn.init.zeros_(self.embedder.linear_2.bias)

    def forward(self, guidance: Tensor) -> Tensor:
        """[B] to [B, 1, D]."""
        return self.embedder(guidance * _GUIDANCE_SCALE)[:, None]
