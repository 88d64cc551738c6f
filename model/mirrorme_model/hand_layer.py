"""Given hands, laid over frames in the shapes that their keypoints have.

How fingers lie is known to the pixel where keypoints are given, and how thick they are is much the
same for all hands. So neither is left to networks, which small as they are draw blots there: they
say what colour a hand has, and how much of it is seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mirrorme_model.hand_cues import FINGERS
from mirrorme_model.vae_config import NUM_HANDS, SPATIAL_FACTOR
from mirrorme_model.vae_layers import FrameConv, init_conv

_PALM = ((0, 1), (0, 5), (0, 9), (0, 13), (0, 17), (5, 9), (9, 13), (13, 17), (1, 5), (1, 2))
_RADII = (
    (0.100, 0.084, 0.074, 0.059),
    *[(0.074, 0.066, 0.059, 0.050)] * 3,
    (0.065, 0.055, 0.050, 0.042),
)
"""Of fingers at their keypoints, in hands' lengths, as all below."""
_PALM_RADIUS = 0.088
_PALM_SHARPNESS = 27.0
"""Of the smooth union of what the palm is made of (log-sum-exp)."""
_PALM_INSET = 0.033
_USUAL = {
    (0, 5): 0.475, (0, 9): 0.481, (0, 13): 0.460, (0, 17): 0.427, (5, 17): 0.290,
    (1, 2): 0.190, (2, 3): 0.145, (3, 4): 0.125, (5, 6): 0.225, (6, 7): 0.135, (7, 8): 0.110,
    (9, 10): 0.245, (10, 11): 0.155, (11, 12): 0.115, (13, 14): 0.230, (14, 15): 0.145,
    (15, 16): 0.110, (17, 18): 0.175, (18, 19): 0.105, (19, 20): 0.095,
}  # fmt: skip
"""How far keypoints of a hand seen from the front are apart."""
_LINE = (-0.033, -0.002)
"""An outline grows dark between these distances from the edge."""
_BASE = (0.05, 0.75)
"""A finger's outline begins between these shares of its first bone."""
_MARGIN = 0.15
"""Around keypoints."""
_CELLS = 56
"""A side of the square around a hand in which its shape is drawn."""
_FAR = 100.0
_LEAST_INSIDE = 1e-4
"""Share of a frame: with no more inside hands their colour is mostly what the layer adds."""
_WIDTH = 32
_OPACITY = 3.0
_DARKNESS = 0.2
"""Where layers start: the logit of how much of a hand is seen, and how dark its outlines are."""


class Shapes(NamedTuple):
    """Hands over frames, `[N, 1, H, W]`, 0 to 1."""

    cover: Tensor
    """How much of a pixel is of a hand."""
    lines: Tensor
    """Outlines, those of fingers before the palm too."""


class HandLayer(nn.Module):
    """What hands look like, wherever one may be; starts with one colour, that which frames have
    inside hands."""

    CHANNELS = (3, 1, 1)
    """What is added to the colour, how dark outlines are, and a logit."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.hidden = FrameConv(width, _WIDTH)
        self.output = FrameConv(_WIDTH, sum(self.CHANNELS))
        init_conv(self.hidden, 2**0.5)
        nn.init.zeros_(self.output.conv.weight)
        bias = self.output.conv.bias
        assert bias is not None
        with torch.no_grad():
            bias.copy_(torch.tensor([0.0, 0.0, 0.0, _DARKNESS, _OPACITY]))

    def forward(self, x: Tensor) -> Tensor:
        """Features `[B f, C, h, w]` or `[B, C, f, h, w]` to 5 channels."""
        return self.output(nn.functional.silu(self.hidden(x)))


def lay_hands(frames: Tensor, patches: Tensor, paint: Tensor, hands: Tensor) -> Tensor:
    """Hands over frames.

    Args:
        frames: [N, 3, H, W].
        patches: [N, 3 * p * p, h, w], what they were made of, colour by colour.
        paint: [N, 5, h, w] of `HandLayer`.
        hands: [N, 2, 21, 3] keypoints, x and y in tokens from the frame's corner.

    Returns:
        [N, 3, H, W], where outlines are dark perhaps a little out of range.
    """
    cover, lines = hand_shapes(hands, frames.shape[2], frames.shape[3])
    colors = patches.unflatten(1, (3, -1)).mean(dim=2)
    patch_px = frames.shape[2] // paint.shape[2]
    inside = nn.functional.avg_pool2d(cover, patch_px) ** 4
    total = inside.mean(dim=(2, 3), keepdim=True) + _LEAST_INSIDE
    color = (colors * inside).mean(dim=(2, 3), keepdim=True) / total
    added, darkness, opacity = paint.split(HandLayer.CHANNELS, dim=1)
    coarse = torch.cat([color + added, darkness, torch.sigmoid(opacity)], dim=1)
    fine = nn.functional.interpolate(coarse, scale_factor=float(patch_px), mode="bilinear")
    colors, darkness, opacity = fine.split(HandLayer.CHANNELS, dim=1)
    return frames + cover * opacity * (colors - darkness * lines - frames)


def lay_shown_hands(frames: Tensor, patches: Tensor, paint: Tensor, hands: Tensor) -> Tensor:
    """As `lay_hands`, and on a CPU without work for frames that no hand reaches into: whether one
    does is looked at, which graphs cannot."""
    shown = shows_hands(hands, frames.shape[2], frames.shape[3])
    if shown is None:
        return lay_hands(frames, patches, paint, hands)
    laid = lay_hands(frames[shown], patches[shown], paint[shown], hands[shown])
    return frames.index_put((shown,), laid)


def shows_hands(hands: Tensor, height: int, width: int) -> Tensor | None:
    """Which frames a hand reaches into, `[N]` bool; as `hand_shapes`.

    None: on a GPU, where to choose frames costs more than to draw in all.
    """
    if not hands.is_cpu:
        return None
    points, given = hands[..., :2].flatten(0, 1), hands[..., 2].flatten(0, 1) > 0
    low, high = _box(points, given)
    margin = _MARGIN * _lengths(points, given) + 1 / SPATIAL_FACTOR
    size = torch.tensor([width, height], device=hands.device) / SPATIAL_FACTOR
    reaches = (high + margin > 0) & (low - margin < size) & given.any(dim=1, keepdim=True)
    return reaches.all(dim=1).unflatten(0, (-1, NUM_HANDS)).any(dim=1)


def hand_shapes(hands: Tensor, height: int, width: int) -> Shapes:
    """What hands cover.

    Args:
        hands: [N, 2, 21, 3] keypoints, x and y in tokens from the frame's corner; visibility 0: not
            given.
        height: of the frame, pixels.
        width: as `height`.
    """
    points, given = hands[..., :2].flatten(0, 1), hands[..., 2].flatten(0, 1) > 0
    length = _lengths(points, given)
    low, high = _box(points, given)
    middle = (low + high) / 2
    # Half the square's side, in hands' lengths.
    reach = ((high - low).amax(dim=1, keepdim=True) / 2 / length).clamp(min=0) + _MARGIN
    cells = (torch.arange(_CELLS, device=hands.device, dtype=hands.dtype) + 0.5) * (2 / _CELLS) - 1
    placed = (points - middle[:, None]) / length[..., None]
    pixel = 1 / SPATIAL_FACTOR / length
    maps = _drawn(placed, given, reach * cells, torch.maximum(pixel, reach * (2 / _CELLS)))
    side = reach * length * 2 * SPATIAL_FACTOR / _CELLS
    middle = middle * SPATIAL_FACTOR
    across = _spread(middle[:, :1], side, width)
    down = _spread(middle[:, 1:], side, height)
    drawn = down[:, None] @ maps @ across[:, None].transpose(2, 3)
    left, right = drawn.unflatten(0, (-1, 2)).unbind(1)
    under = 1 - right[:, :1]
    return Shapes(right[:, :1] + under * left[:, :1], right[:, 1:] + under * left[:, 1:])


def _box(points: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
    """Corners around what is given of hands, `[n, 2]`."""
    low = torch.where(given[..., None], points, _FAR).amin(dim=1)
    return low, torch.where(given[..., None], points, -_FAR).amax(dim=1)


def _lengths(points: Tensor, given: Tensor) -> Tensor:
    """Of hands, `[n, 1]`, in tokens: bones are seen shortened, so by the one that says most."""
    start, end = ([pair[side] for pair in _USUAL] for side in (0, 1))
    usual = torch.tensor(list(_USUAL.values()), dtype=points.dtype, device=points.device)
    far = (points[:, end] - points[:, start]).square().sum(dim=2)
    far = torch.sqrt(far + 1e-6) / usual * (given[:, start] & given[:, end])
    return far.amax(dim=1, keepdim=True).clamp(min=0.1)


def _drawn(points: Tensor, given: Tensor, cells: Tensor, pixel: Tensor) -> Tensor:
    """Cover and lines of each hand by itself.

    Args:
        points: [n, 21, 2], hands' lengths.
        given: [n, 21].
        cells: [n, c], where cells are, in columns and in rows.
        pixel: [n, 1], over which edges are soft.

    Returns:
        [n, 2, c, c].
    """
    pairs = [(chain[i], chain[i + 1]) for i in range(3) for chain in FINGERS]
    radii = [(radii[i], radii[i + 1]) for i in range(3) for radii in _RADII]
    bones, along = _distances(points, given, cells, pairs, radii)
    fingers = bones.unflatten(1, (3, -1)).amin(dim=1)
    palm, _ = _distances(points, given, cells, _PALM, [(_PALM_RADIUS, _PALM_RADIUS)] * len(_PALM))
    sharp = _PALM_SHARPNESS
    palm = _PALM_INSET - torch.logsumexp(-sharp * palm, dim=1, keepdim=True) / sharp
    nearest = fingers.amin(dim=1, keepdim=True)
    begun = _smoothstep(along[:, : len(FINGERS)], *_BASE)
    begun = torch.where(fingers <= nearest, begun, 0.0).amax(dim=1, keepdim=True)
    before_palm = torch.where(nearest < 0, begun * _smoothstep(nearest, *_LINE), 0.0)
    distance = torch.minimum(nearest, palm)
    cover = (0.5 - distance / pixel[..., None, None]).clamp(0, 1)
    lines = torch.maximum(before_palm, _smoothstep(distance, *_LINE)) * cover
    return torch.cat([cover, lines], dim=1)


def _distances(
    points: Tensor,
    given: Tensor,
    cells: Tensor,
    pairs: Sequence[tuple[int, int]],
    radii: Sequence[tuple[float, float]],
) -> tuple[Tensor, Tensor]:
    """How far cells are from tapered bones, and where along them, `[n, S, c, c]`."""
    start, end = ([pair[side] for pair in pairs] for side in (0, 1))
    at_start, at_end = (
        torch.tensor([pair[side] for pair in radii], dtype=points.dtype, device=points.device)
        for side in (0, 1)
    )
    step = points[:, end] - points[:, start]
    square = step.square().sum(dim=2, keepdim=True) + 1e-4
    x = cells[:, None] - points[:, start, :1]
    y = cells[:, None] - points[:, start, 1:]
    share_x, share_y = x * step[..., :1] / square, y * step[..., 1:] / square
    unbounded = share_x[:, :, None] + share_y[..., None]
    along = unbounded.clamp(0, 1)
    # |p - along step|^2 by what is known of p already.
    beside = along * (along - 2 * unbounded) * square[..., None]
    from_start = x.square()[:, :, None] + y.square()[..., None]
    # Bones that lack an end are of no thickness, and less.
    lacking = ~(given[:, start] & given[:, end])
    first = (at_start - _FAR * lacking)[..., None, None]
    radius = first + (at_end - at_start)[:, None, None] * along
    return torch.sqrt((from_start + beside).clamp(min=1e-6)) - radius, along


def _spread(middle: Tensor, cell: Tensor, count: int) -> Tensor:
    """Shares of cells in pixels `[n, count, c]`; both `[n, 1]`, in pixels."""
    like = {"device": middle.device, "dtype": middle.dtype}
    place = (torch.arange(count, **like) + 0.5 - middle) / cell + (_CELLS - 1) / 2
    # Where cells are finer than pixels, as many as a pixel holds.
    held = (1 / cell).clamp(min=1)[..., None]
    apart = (place[..., None] - torch.arange(_CELLS, **like)).abs()
    return (1 - apart / held).clamp(min=0) / held


def _smoothstep(x: Tensor, low: float, high: float) -> Tensor:
    t = ((x - low) / (high - low)).clamp(0, 1)
    return t * t * (3 - 2 * t)
