"""An auxiliary task on audio tokens: the shape of the mouth, frame by frame. Never saved for use.

It teaches the audio encoder speech directly, long before the denoiser listens to it.
"""

from __future__ import annotations

import torch
from mirrorme_model.audio_config import AudioConfig
from mirrorme_model.vae_config import FRAMES_PER_LATENT
from torch import Tensor, nn

from mirrorme_training.clip_window import UNKNOWN_VISEME
from mirrorme_training.speech_shards import VISEME_NAMES

_HIDDEN = 256
_CLOSED, _CLOSED_WEIGHT = 0.03, 3.0
"""Openings below count as closed, and weigh more: lips that do not meet are seen at once."""
_SHAPE_SCALE = 10.0
"""Squared errors of shapes in 0 to 1 are small beside a cross-entropy."""


class SpeechHead(nn.Module):
    """Predicts mouth shapes and visemes of a latent frame's 8 frames from its tokens."""

    def __init__(self, config: AudioConfig, num_shapes: int) -> None:
        super().__init__()
        self._num_shapes = num_shapes
        self._num_speech_tokens = config.num_speech_tokens
        outputs = FRAMES_PER_LATENT * (num_shapes + len(VISEME_NAMES))
        self.layers = nn.Sequential(
            nn.Linear(config.num_speech_tokens * config.token_width, _HIDDEN),
            nn.SiLU(),
            nn.Linear(_HIDDEN, outputs),
        )

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """`[B, F, K, C]` to shapes `[B, 8 F, num_shapes]` and viseme scores `[B, 8 F, visemes]`."""
        speech = tokens[:, :, : self._num_speech_tokens].flatten(2)
        made = self.layers(speech).unflatten(2, (FRAMES_PER_LATENT, -1)).flatten(1, 2).float()
        return made[..., : self._num_shapes], made[..., self._num_shapes :]

    def loss(self, tokens: Tensor, shapes: Tensor, visemes: Tensor) -> tuple[Tensor, Tensor]:
        """The loss, and the share of visemes that are named right.

        Args:
            tokens: `[B, F, K, C]`.
            shapes: `[B, 8 F, num_shapes]`, the opening last; NaN where nobody knows.
            visemes: `[B, 8 F]`; `UNKNOWN_VISEME` where nobody knows.
        """
        made, scores = self(tokens)
        known = ~shapes.isnan()
        errors = (made - shapes.float().nan_to_num()).square() * known
        errors = errors * (1 + (_CLOSED_WEIGHT - 1) * (shapes[..., -1:] < _CLOSED))
        shape_loss = errors.sum() / known.sum().clamp(min=1)
        scores, visemes = scores.flatten(0, 1), visemes.flatten()
        named = (visemes != UNKNOWN_VISEME).sum().clamp(min=1)
        viseme_loss = nn.functional.cross_entropy(
            scores, visemes, label_smoothing=0.05, ignore_index=UNKNOWN_VISEME, reduction="sum"
        )
        right = (scores.argmax(dim=1) == visemes).sum() / named
        return _SHAPE_SCALE * shape_loss + 0.5 * viseme_loss / named, right.detach()


def mouth_shapes(controls: Tensor, opening: Tensor, columns: Tensor) -> Tensor:
    """What the head predicts: some controls and the opening ratio, `[B, T, len(columns) + 1]`."""
    return torch.cat([controls[..., columns].float(), opening[..., None].float()], dim=-1)
