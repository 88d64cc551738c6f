"""Where given hands are, as channels of latents: how the decoder is told them.

Each token is told all keypoints, counted from its own corner in tokens, so that any part of a
picture may be decoded by itself.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mirrorme_model.vae_config import FRAMES_PER_LATENT, NUM_HANDS, NUM_KEYPOINTS

FINGERS = ((1, 2, 3, 4), (5, 6, 7, 8), (9, 10, 11, 12), (13, 14, 15, 16), (17, 18, 19, 20))
"""Keypoints of each, thumb first; 0 is the wrist."""
_SHAPE = (3, FRAMES_PER_LATENT, NUM_HANDS, NUM_KEYPOINTS)


def hand_cues(keypoints: Tensor, height: int, width: int) -> Tensor:
    """Tells each token of a picture.

    Args:
        keypoints: [B, 8·F, 2, 21, 3]: x and y from 0 to 1 over the frame, visibility 0 (not given)
            to 1.
        height: of the picture, in tokens.
        width: as `height`.

    Returns:
        [B, F, HAND_CHANNELS, h, w], 0 for keypoints that are not given.
    """
    by_latent = keypoints.unflatten(1, (-1, FRAMES_PER_LATENT)).flatten(2, 4)[..., None, None]
    x, y, visibility = by_latent.unbind(3)
    columns = torch.arange(width, dtype=x.dtype, device=x.device).expand(height, width)
    rows = torch.arange(height, dtype=x.dtype, device=x.device)[:, None].expand(height, width)
    given = (visibility > 0).to(x.dtype)
    places = given * (x * width - columns), given * (y * height - rows)
    return torch.cat([*places, visibility.expand_as(places[0])], dim=2)


def told_hands(cues: Tensor) -> Tensor:
    """`[B, F, HAND_CHANNELS, h, w]` back to `[B, 8·F, 2, 21, 3]`, x and y in tokens from the corner
    of the picture, or of the part of one that is left."""
    return cues[..., 0, 0].unflatten(2, _SHAPE).movedim(2, -1).flatten(1, 2)
