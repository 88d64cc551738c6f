"""What pixels count in a loss: more at faces, mouths and hands, and where little moves."""

from __future__ import annotations

from mirrorme_model.hand_layer import hand_shapes, shows_hands
from torch import Tensor, nn

from mirrorme_training.clip_window import MASK_STRIDE

_HAND_SQUARE_PX = 17
"""Pixels of a hand make all count as it does in such a square around them: edges are what tells
fingers apart."""
_LEAST_MOVED = 1e-5
"""Squared, -1 to 1: controls that move less than that count no more than those that do."""


def near_hands(hands: Tensor, height: int, width: int) -> Tensor:
    """What hands cover, and a margin around them, `[N, 1, H, W]`; arguments as of `hand_shapes`."""
    shown = shows_hands(hands, height, width)
    seen = hands if shown is None else hands[shown]
    near = hand_shapes(seen, height, width).cover
    for side in ((1, _HAND_SQUARE_PX), (_HAND_SQUARE_PX, 1)):
        near = nn.functional.max_pool2d(near, side, 1, (side[0] // 2, side[1] // 2))
    if shown is None:
        return near
    return near.new_zeros(len(hands), *near.shape[1:]).index_put((shown,), near)


def squared_movement(video: Tensor, weights: Tensor) -> Tensor:
    """By how much frames differ from their mean over the clip, squared, `[B, 1, 1, 1, 1]`."""
    square = (video - video.mean(dim=2, keepdim=True)).square() * weights
    every = (1, 2, 3, 4)
    moved = square.mean(dim=every, keepdim=True) / weights.mean(dim=every, keepdim=True)
    return moved.clamp(min=_LEAST_MOVED)


def mask_weights(masks: Tensor, face: float, mouth: float | Tensor) -> Tensor:
    """`[B, T, 2, h, w]` to `[B, 1, T, H, W]`: 1, and so much more where face and mouth are; mouths
    frame by frame where `mouth` is `[B, 1, T, 1, 1]`."""
    seen = _enlarged(masks.float() / 255, MASK_STRIDE)
    return 1 + face * seen[:, :1] + mouth * seen[:, 1:]


def _enlarged(maps: Tensor, stride: int) -> Tensor:
    """`[B, T, M, h, w]` to `[B, M, T, H, W]` of pixels."""
    return nn.functional.interpolate(
        maps.transpose(1, 2), scale_factor=(1.0, float(stride), float(stride))
    )
