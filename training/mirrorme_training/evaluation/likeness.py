"""How like its portrait a frame is, by plain image processing."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

REACH_PX = 6
"""How far a block of the portrait is looked for: head and trunk move by less from frame to frame,
and so does the person about the portrait's place."""
BLOCK_PX = 16
_THUMBNAIL = (16, 16)


def still_psnr_db(
    frames: NDArray[np.uint8], portrait: NDArray[np.uint8], counted: NDArray[np.bool_]
) -> float:
    """PSNR of frames `[T, H, W, 3]` to the portrait `[H, W, 3]` where `counted` `[H, W]`."""
    error = (frames.astype(np.float64) - portrait) ** 2
    return _decibels(float(error[:, counted].mean()))


def moved_psnr_db(
    frames: NDArray[np.uint8], portrait: NDArray[np.uint8], counted: NDArray[np.bool_]
) -> float:
    """PSNR with movement removed, as video codecs do it.

    Each block of 16 by 16 pixels is compared with the part of the portrait, shifted by whole pixels
    up to `REACH_PX`, that is most like it; pixels that are not counted take no part.
    """
    mask = torch.from_numpy(counted).float()[None, None]
    picture = torch.from_numpy(portrait).float().movedim(-1, 0)[None]
    padded = functional.pad(picture, (REACH_PX,) * 4, mode="replicate")
    height, width = counted.shape
    shown = torch.from_numpy(frames).float().movedim(-1, 1)
    best: Tensor | None = None
    for down in range(2 * REACH_PX + 1):
        for right in range(2 * REACH_PX + 1):
            part = padded[:, :, down : down + height, right : right + width]
            error = (shown - part).square_().mean(1, keepdim=True).mul_(mask)
            blocks = functional.avg_pool2d(error, BLOCK_PX)
            best = blocks if best is None else torch.minimum(best, blocks)
    assert best is not None
    share = float(functional.avg_pool2d(mask, BLOCK_PX).mean())
    return _decibels(float(best.mean()) / share)


def psnr_db(made: NDArray[np.uint8], truth: NDArray[np.uint8]) -> float:
    """PSNR of the whole of same-sized pictures."""
    return _decibels(float(((made.astype(np.float64) - truth) ** 2).mean()))


def without_mouth(mouth_mask: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Where a portrait's likeness counts, `[H, W]`: all but a box around mouth and chin."""
    rows, columns = np.nonzero(mouth_mask > 0)
    counted = np.ones(mouth_mask.shape, bool)
    wide = columns.max() - columns.min() + 1
    top = max(0, rows.min() - wide // 4)
    left = max(0, columns.min() - wide // 4)
    counted[top : rows.max() + wide * 3 // 4, left : columns.max() + wide // 4 + 1] = False
    return counted


def head_distances(
    frames: NDArray[np.uint8], portrait: NDArray[np.uint8], face_box_px: NDArray[np.float64]
) -> NDArray[np.float64]:
    """How unlike the portrait's head each frame is where that portrait has its head, `[T]`.

    Heads are told apart by the mean colours of 16 by 16 fields; of the frame's places at most
    `REACH_PX` away the one most alike counts.
    """
    wanted = _thumbnails(portrait[None], face_box_px)
    places = [
        _thumbnails(frames, face_box_px + np.array([right, down, right, down]))
        for down in (-REACH_PX, 0, REACH_PX)
        for right in (-REACH_PX, 0, REACH_PX)
    ]
    return np.min([((place - wanted) ** 2).mean(1) for place in places], axis=0)


def _thumbnails(frames: NDArray[np.uint8], face_box_px: NDArray[np.float64]) -> NDArray[np.float64]:
    left, top, right, bottom = face_box_px
    half_x, half_y = 0.65 * (right - left), 0.65 * (bottom - top)
    middle_x, middle_y = (left + right) / 2, (top + bottom) / 2 - 0.15 * (bottom - top)
    rows = slice(max(0, round(middle_y - half_y)), round(middle_y + half_y))
    columns = slice(max(0, round(middle_x - half_x)), round(middle_x + half_x))
    part = torch.from_numpy(frames[:, rows, columns]).float().movedim(-1, 1)
    return functional.interpolate(part, _THUMBNAIL, mode="area").flatten(1).double().numpy()


def _decibels(mean_square: float) -> float:
    return 10 * math.log10(255**2 / max(mean_square, 1e-3))
