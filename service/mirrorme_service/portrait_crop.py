"""Which part of a picture fills the model's frame, and the pixels of that part.

Geometry and resampling only; the face is found elsewhere.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mirrorme_service.face_detector import Face
from mirrorme_service.picture import Picture


@dataclass(frozen=True)
class CropBox:
    """A part of a picture, in its pixels from the top left; it may reach outside of it."""

    x_px: int
    y_px: int
    width_px: int
    height_px: int


@dataclass(frozen=True)
class Framing:
    """How a face sits in a frame, as parts of the frame's height or width.

    `face_height` is wanted; up to `max_face_height` is taken where the picture would otherwise end
    inside the frame. `face_centre_y` counts from the top. The face may sit off its place by
    `max_drift` for the same reason.
    """

    face_height: float
    max_face_height: float
    face_centre_y: float
    max_drift: float = 0.12


# A face's box goes from forehead to chin; hair adds about a third above it.
UPPER_BODY = Framing(face_height=0.30, max_face_height=0.40, face_centre_y=0.38)
CLOSE_UP = Framing(face_height=0.55, max_face_height=0.65, face_centre_y=0.52)


def face_crop(
    face: Face, picture_size: tuple[int, int], frame_size: tuple[int, int], framing: Framing
) -> CropBox:
    """The box with the frame's shape that frames the face. Sizes are (width, height)."""
    picture_width, picture_height = picture_size
    aspect = frame_size[0] / frame_size[1]
    height = _clamp(
        min(picture_height, picture_width / aspect),
        face.height / framing.max_face_height,
        face.height / framing.face_height,
    )
    width = height * aspect
    left = (face.left + face.right) / 2 - width / 2
    top = (face.top + face.bottom) / 2 - height * framing.face_centre_y
    return CropBox(
        x_px=round(_inside(left, width, picture_width, framing.max_drift * width)),
        y_px=round(_inside(top, height, picture_height, framing.max_drift * height)),
        width_px=round(width),
        height_px=round(height),
    )


def centre_crop(picture_size: tuple[int, int], frame_size: tuple[int, int]) -> CropBox:
    """The largest centred box with the frame's shape inside the picture."""
    scale = min(picture_size[0] / frame_size[0], picture_size[1] / frame_size[1])
    return _centred(picture_size, frame_size, scale)


def whole_picture(picture_size: tuple[int, int], frame_size: tuple[int, int]) -> CropBox:
    """The smallest centred box with the frame's shape around the picture."""
    scale = max(picture_size[0] / frame_size[0], picture_size[1] / frame_size[1])
    return _centred(picture_size, frame_size, scale)


def cut(picture: Picture, box: CropBox, frame_size: tuple[int, int]) -> NDArray[np.uint8]:
    """The box of an RGB picture, resampled to the frame: uint8 [H, W, 3].

    Where the box reaches outside, the picture's edge goes on. The same input gives the same pixels.
    """
    frame_width, frame_height = frame_size
    x_scale, y_scale = box.width_px / frame_width, box.height_px / frame_height
    columns = _covered(box.x_px, x_scale, picture.width, frame_width)
    rows = _covered(box.y_px, y_scale, picture.height, frame_height)
    inside = picture.resize(
        (len(columns), len(rows)),
        Image.Resampling.LANCZOS,
        box=(
            max(0.0, box.x_px + columns.start * x_scale),
            max(0.0, box.y_px + rows.start * y_scale),
            min(float(picture.width), box.x_px + columns.stop * x_scale),
            min(float(picture.height), box.y_px + rows.stop * y_scale),
        ),
        reducing_gap=3.0,
    )
    pixels = np.asarray(inside, np.uint8)
    pixels = _extended(pixels, columns.start, frame_width - columns.stop, axis=1)
    pixels = _extended(pixels, rows.start, frame_height - rows.stop, axis=0)
    return np.ascontiguousarray(pixels)


def _centred(picture_size: tuple[int, int], frame_size: tuple[int, int], scale: float) -> CropBox:
    """The centred box of `scale` picture pixels a frame pixel."""
    (width, height), (frame_width, frame_height) = picture_size, frame_size
    box_width, box_height = round(frame_width * scale), round(frame_height * scale)
    return CropBox((width - box_width) // 2, (height - box_height) // 2, box_width, box_height)


def _clamp(value: float, low: float, high: float) -> float:
    return max(low, min(high, value))


def _inside(start: float, length: float, limit: int, max_drift: float) -> float:
    """The start moved by at most `max_drift` so that [start, start + length] lies in [0, limit]."""
    wanted = (limit - length) / 2 if length >= limit else _clamp(start, 0, limit - length)
    return _clamp(wanted, start - max_drift, start + max_drift)


def _covered(start: int, scale: float, picture_length: int, frame_length: int) -> range:
    """The frame's pixels (rows or columns) that lie wholly inside of the picture.

    Where the picture is narrower than a pixel, the one that it lies in.
    """
    first = max(0, math.ceil(-start / scale))
    last = min(frame_length, math.floor((picture_length - start) / scale))
    if first < last:
        return range(first, last)
    middle = math.floor((picture_length / 2 - start) / scale)
    middle = max(0, min(frame_length - 1, middle))
    return range(middle, middle + 1)


def _extended(pixels: NDArray[np.uint8], before: int, after: int, axis: int) -> NDArray[np.uint8]:
    """The picture with its edge repeated outwards, smoothed along the edge so that it is calm."""
    if before == 0 and after == 0:
        return pixels
    parts = [pixels]
    if before:
        parts.insert(0, np.repeat(_calm_edge(pixels.take([0], axis), axis), before, axis))
    if after:
        parts.append(np.repeat(_calm_edge(pixels.take([-1], axis), axis), after, axis))
    return np.concatenate(parts, axis)


def _calm_edge(edge: NDArray[np.uint8], axis: int) -> NDArray[np.uint8]:
    """A line of pixels, each the mean of its neighbourhood (an eighth of the line)."""
    along = 1 - axis
    length = edge.shape[along]
    reach = max(1, length // 16)
    padded = np.pad(
        edge.astype(np.int64),
        [(reach, reach) if i == along else (0, 0) for i in range(3)],
        mode="edge",
    )
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1, axis=along)
    size = 2 * reach + 1
    return ((windows.sum(-1) + size // 2) // size).astype(np.uint8)
