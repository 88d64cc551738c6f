"""How sharp a face is."""

from __future__ import annotations

import cv2
import numpy as np

from mirrorme_training.footage.face_geometry import Points
from mirrorme_training.footage.landmarks import Pixels

_FACE_PX = 96


def sharpness(picture: Pixels, face: Points) -> float:
    """Mean change between neighbouring pixels' changes, over the face's contrast.

    Of the face at one size, whatever the picture's.

    Args:
        face: `[478, 3]` in 0 to 1 of the picture.
    """
    size = picture.shape[0]
    corners = np.stack([face[:, :2].min(axis=0), face[:, :2].max(axis=0)]) * size
    (left, top), (right, bottom) = corners.round().astype(int).clip(0, size)
    if right - left < 8 or bottom - top < 8:
        return 0.0
    grey = cv2.cvtColor(
        np.ascontiguousarray(picture[top:bottom, left:right]), cv2.COLOR_RGB2GRAY
    ).astype(np.float32)
    grey = cv2.resize(grey, (_FACE_PX, _FACE_PX), interpolation=cv2.INTER_AREA)
    contrast = float(grey.std())
    return float(np.abs(cv2.Laplacian(grey, cv2.CV_32F)).mean()) / (contrast + 1.0)
