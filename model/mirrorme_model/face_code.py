"""What speech and controls make of a face, told to the decoder in numbers instead of pixels.

Latents of a small model say only roughly how a mouth moves, and differently for every face. This
code says it the same way for all, so that the decoder, which knows the face, can draw it. Models of
published weights have none.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mirrorme_model.config import (
    CODED_FRAMES,
    LipsConfig,
    ModelConfig,
    coded_channels,
    face_channels,
)
from mirrorme_model.controls import ControlEmbedding
from mirrorme_model.vae_config import FRAMES_PER_LATENT

OPENING_UNIT = 0.1
"""Opening over the mouth's width that counts as 1."""
_ABOUT_FRAMES = 2
"""Before and after a frame: those that tell whether its lips close."""


class FaceCode(nn.Module):
    """The lips' opening in each of a latent's 8 frames, then all controls in two of them.

    What is asked of a control is taken as it is; the rest is guessed from speech and controls.
    """

    scale: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        controls = config.controls
        reach = ControlEmbedding.reach(controls)
        self.register_buffer("scale", 1 / reach, persistent=False)
        self._lips = config.lips
        self._num_speech_tokens = config.audio.num_speech_tokens
        speech = config.audio.num_speech_tokens * config.audio.token_width
        features = 2 * FRAMES_PER_LATENT * len(controls.controls)
        width = controls.hidden_width
        self.speech_in = nn.Linear(speech, 2 * width, bias=False)
        self.controls_in = nn.Linear(features, 2 * width)
        self.hidden = nn.Linear(2 * width, 2 * width)
        self.output = nn.Linear(2 * width, face_channels(len(controls.controls)))

    def forward(
        self, tokens: Tensor, expression: Tensor, controls: Tensor, weights: Tensor
    ) -> Tensor:
        """Makes codes.

        Args:
            tokens: [B, F, K, C] of speech.
            expression: [B]: by how much of what speech does.
            controls: [B, 8·F, controls], in the config's order and units.
            weights: [B, 8·F, controls], 0 where not given.

        Returns:
            [B, F, E], E being `face_channels`.
        """
        given = controls * self.scale * weights
        features = torch.cat((given, weights), dim=-1)
        asked = self.controls_in(
            features.reshape(features.shape[0], -1, self.controls_in.in_features)
        )
        heard = self.speech_in(tokens[:, :, : self._num_speech_tokens].flatten(2))
        silent = self._guess(asked)
        code = silent + expression[:, None, None] * (self._guess(asked + heard) - silent)
        opening, guessed = code.split([FRAMES_PER_LATENT, code.shape[-1] - FRAMES_PER_LATENT], -1)
        known = 1 - sampled(weights)
        return torch.cat((opening, sampled(given) + known * guessed), dim=-1)

    def told(self, code: Tensor) -> Tensor:
        """What a decoder is told of a code that was made, `[B, F, E]`: see `LipsConfig`."""
        if self._lips == LipsConfig():
            return code
        opening, rest = code.split([FRAMES_PER_LATENT, code.shape[-1] - FRAMES_PER_LATENT], -1)
        ends = [opening[..., :1]] * _ABOUT_FRAMES, [opening[..., -1:]] * _ABOUT_FRAMES
        padded = torch.cat([*ends[0], opening, *ends[1]], dim=-1)
        spans = [padded[..., k : k + FRAMES_PER_LATENT] for k in range(2 * _ABOUT_FRAMES + 1)]
        closing = (opening - torch.stack(spans).mean(dim=0)).clamp(max=0)
        closed = opening + self._lips.overshoot * closing - self._lips.closer_ratio / OPENING_UNIT
        return torch.cat((closed, rest), dim=-1)

    @torch.no_grad()
    def stop_guessing(self, control: int) -> None:
        """Has one control, by its place in the config, at rest wherever it is not asked for."""
        rows = coded_channels(control, len(self.scale))
        self.output.weight[rows] = 0
        self.output.bias[rows] = 0

    def truth(self, opening: Tensor, controls: Tensor) -> Tensor:
        """The code of what is known: opening ratio `[B, 8·F]` and controls `[B, 8·F, controls]`, in
        the config's units, to `[B, F, E]`; NaN where nobody knows."""
        by_latent = opening.unflatten(1, (-1, FRAMES_PER_LATENT)) / OPENING_UNIT
        return torch.cat((by_latent, sampled(controls * self.scale)), dim=-1)

    def _guess(self, x: Tensor) -> Tensor:
        x = nn.functional.silu(x)
        return self.output(x + nn.functional.silu(self.hidden(x)))


def sampled(controls: Tensor) -> Tensor:
    """`[B, 8·F, controls]` to `[B, F, 2·controls]`: those of two frames a latent."""
    by_latent = controls.unflatten(1, (-1, FRAMES_PER_LATENT))
    return torch.cat([by_latent[:, :, frame] for frame in CODED_FRAMES], dim=-1)
