"""Slots of speech features to the audio tokens of latent frames."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mirrorme_model.audio_config import AudioConfig


class AudioTokens(nn.Module):
    """Convolutions over time, from slots down to latent frames, a few tokens a latent frame.

    Nothing is padded: the slots before the chunk are given, so a chunk's tokens equal the whole
    clip's. All tokens share the strided convolutions. After Wan-S2V's encoder (arXiv 2508.18621).
    """

    def __init__(self, config: AudioConfig) -> None:
        super().__init__()
        self._num_speech_tokens = config.num_speech_tokens
        width = config.local_width
        local_channels = width * config.num_speech_tokens
        self.local = nn.Conv1d(config.backbone.hidden_size, local_channels, 3)
        self.strided = nn.ModuleList()
        for wider in config.strided_widths:
            self.strided.append(nn.Conv1d(width, wider, 3, stride=2))
            width = wider
        self.padding = nn.Parameter(torch.zeros(1, 1, 1, width))
        self.null = nn.Parameter(torch.zeros(config.num_tokens, width))
        """[K, C]: stands for "no speech given"; for condition dropout in training."""

    def forward(self, slots: Tensor) -> Tensor:
        """Makes tokens.

        Args:
            slots: [B, past_slots + slots of F latent frames, hidden_size].

        Returns:
            [B, F, K, C]; the last token is the learned padding. Latent frame f sees slots up to its
            own last one.
        """
        x = self.local(slots.transpose(1, 2))
        x = x.unflatten(1, (self._num_speech_tokens, -1)).flatten(0, 1)
        x = _normalized(x)
        for convolution in self.strided:
            x = _normalized(convolution(x))
        tokens = x.unflatten(0, (-1, self._num_speech_tokens)).permute(0, 3, 1, 2)
        padding = self.padding.expand(*tokens.shape[:2], -1, -1)
        return torch.cat((tokens, padding), dim=2)


def _normalized(x: Tensor) -> Tensor:
    """Layer norm over channels of [B, C, T], and SiLU."""
    x = nn.functional.layer_norm(x.transpose(1, 2), x.shape[1:2], eps=1e-6)
    return nn.functional.silu(x).transpose(1, 2)
