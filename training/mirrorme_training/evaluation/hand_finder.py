"""Finds the parts of hands in frames by looking for what a rendering shows there.

A patch around each keypoint is cut out of a rendering of the same person with the hands as given,
and searched in the frame around the given place by normalised correlation. The place of the best
match is the keypoint found; a match that is too poor counts as none.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

LEAST_LIKENESS = 0.5
"""Correlation below which a keypoint is not found; patches of noise reach about 0.2."""
_PATCH = 0.07
_REACH = 0.075
"""Half the patch's side and of the search, of the frame's side."""


def find_keypoints(
    frame: NDArray[np.uint8], rendering: NDArray[np.uint8], keypoints: NDArray[np.float64]
) -> NDArray[np.float64]:
    """How far from the given places the keypoints are.

    Args:
        frame: `[H, W, 3]` to search.
        rendering: `[H, W, 3]` of the same person with these hands.
        keypoints: `[K, 2]` given places, pixels.

    Returns:
        `[K]` distances in pixels, infinite where nothing like it was found.
    """
    size = frame.shape[0]
    patch = int(_PATCH * size / 2) * 2 + 1
    reach = round(_REACH * size)
    whole = patch // 2 + reach
    wanted, searched = _padded(rendering, whole), _padded(frame, whole)
    distances = np.full(len(keypoints), np.inf)
    for index, (x, y) in enumerate(np.floor(keypoints).astype(int)):
        if not (0 <= x < size and 0 <= y < size):
            continue
        template = wanted[:, y + reach : y + reach + patch, x + reach : x + reach + patch]
        area = searched[:, y : y + 2 * whole + 1, x : x + 2 * whole + 1]
        scores = _correlations(area, template)
        best = int(scores.argmax())
        if float(scores.flatten()[best]) < LEAST_LIKENESS:
            continue
        row, column = divmod(best, scores.shape[1])
        distances[index] = np.hypot(row - reach, column - reach)
    return distances


def pck(distances_px: NDArray[np.float64], hand_sizes_px: NDArray[np.float64]) -> float:
    """Share of keypoints `[K]` within a tenth of their hand's size `[K]`."""
    return float((distances_px <= 0.1 * hand_sizes_px).mean())


def _padded(frame: NDArray[np.uint8], margin: int) -> Tensor:
    picture = torch.from_numpy(frame).float().movedim(-1, 0)[None]
    return functional.pad(picture, (margin,) * 4, mode="replicate")[0]


def _correlations(area: Tensor, template: Tensor) -> Tensor:
    """Normalised correlation of a template `[3, p, p]` at every place of an area, `[n, n]`."""
    plain = template - template.mean((1, 2), keepdim=True)
    plain = plain / (plain.norm() + 1e-6)
    num_pixels = template[0].numel()
    ones = torch.ones_like(template[:1])[None] / num_pixels
    dot = functional.conv2d(area[None], plain[None])[0, 0]
    mean = functional.conv2d(area[:, None], ones)
    square = functional.conv2d(area[:, None] ** 2, ones)
    spread = ((square - mean**2).clamp_min(0) * num_pixels).sum(0)[0]
    return dot / (spread.sqrt() + 1.0)
