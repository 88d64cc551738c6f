"""Face and mouth masks drawn from landmarks."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from mirrorme_training.clip_window import MASK_STRIDE
from mirrorme_training.footage.face_geometry import Points

_OVAL = (
    *(10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377),
    *(152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109),
)
OUTER_LIPS = (
    *(61, 146, 91, 181, 84, 17, 314, 405, 321, 375),
    *(291, 409, 270, 269, 267, 0, 37, 39, 40, 185),
)
_SUBPIXEL_BITS = 4


def draw_masks(face: Points, hands: Points, size_px: int) -> NDArray[np.uint8]:
    """Masks `[2, size / 4, size / 4]` of face and mouth, 255 where they are seen.

    Args:
        face: `[478, 3]` in 0 to 1 of the picture.
        hands: `[2, 21, 2]` likewise, NaN where there is none; what they cover is no face.
    """
    masks = np.zeros((2, size_px, size_px), np.uint8)
    for mask, outline in zip(masks, (_OVAL, OUTER_LIPS), strict=True):
        _fill(mask, face[list(outline), :2] * size_px, 255)
        for hand in hands:
            if np.isfinite(hand).all():
                hull = cv2.convexHull((hand * size_px).astype(np.float32))
                _fill(mask, hull[:, 0], 0)
    small = size_px // MASK_STRIDE
    shrunk = [cv2.resize(mask, (small, small), interpolation=cv2.INTER_AREA) for mask in masks]
    return np.stack(shrunk).astype(np.uint8)


def _fill(mask: NDArray[np.uint8], outline_px: Points | NDArray[np.float32], value: int) -> None:
    points = np.round((outline_px - 0.5) * 2**_SUBPIXEL_BITS).astype(np.int32)
    cv2.fillPoly(mask, [points], (value,), lineType=cv2.LINE_8, shift=_SUBPIXEL_BITS)
