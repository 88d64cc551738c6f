"""Small pictures for the report."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from mirrorme_training.clip_window import MASK_STRIDE
from mirrorme_training.footage.clip_record import ClipRecord
from mirrorme_training.footage.landmarks import Pixels
from mirrorme_training.motion_noise import FRAME_RATE

_HEIGHT_PX = 120
_KEPT_PICTURES, _DROPPED_PICTURES = 5, 3
_QUALITY = 82
_MASK_COLOURS = ((80, 160, 255), (255, 90, 60))
_HAND_COLOURS = ((60, 220, 90), (250, 200, 40))
"""Of the person's left and right hand."""


class Contact:
    """Keeps a small picture of every second of a video."""

    def __init__(self) -> None:
        self._jpegs: list[bytes] = []

    def push(self, number: int, picture: Pixels) -> None:
        """The next frame."""
        if number % FRAME_RATE == 0:
            self._jpegs.append(_jpeg(_of_height(picture)))

    def strip(self, start: int, stop: int, path: Path) -> None:
        """Writes pictures of frames `start` to `stop - 1` side by side."""
        times = np.linspace(start, stop - 1, _DROPPED_PICTURES) // FRAME_RATE
        seconds = sorted({min(int(t), len(self._jpegs) - 1) for t in times})
        pictures = [
            cv2.imdecode(np.frombuffer(self._jpegs[s], np.uint8), cv2.IMREAD_COLOR) for s in seconds
        ]
        shown = np.concatenate([p for p in pictures if p is not None], axis=1)[..., ::-1]
        path.write_bytes(_jpeg(shown.astype(np.uint8)))


def clip_strip(record: ClipRecord, path: Path) -> None:
    """Writes frames of a clip, each beside itself with masks and hands drawn on it."""
    shown = np.linspace(0, len(record.frames) - 1, _KEPT_PICTURES).astype(int)
    pictures = [_of_height(record.frames[i]) for i in shown]
    busiest = int(np.argmax(record.mouth + record.keypoints[..., 2].mean(axis=(1, 2))))
    pictures.append(_of_height(_annotated(record, busiest)))
    path.write_bytes(_jpeg(np.concatenate(pictures, axis=1)))


def _annotated(record: ClipRecord, number: int) -> Pixels:
    picture = record.frames[number].astype(np.float32)
    size = picture.shape[0]
    for mask, colour in zip(record.masks[number], _MASK_COLOURS, strict=True):
        cover = mask.repeat(MASK_STRIDE, 0).repeat(MASK_STRIDE, 1)[..., None] / 255 * 0.4
        picture = picture * (1 - cover) + np.array(colour, np.float32) * cover
    drawn = np.ascontiguousarray(picture.astype(np.uint8))
    for hand, colour in zip(record.keypoints[number], _HAND_COLOURS, strict=True):
        for x, y, visible in hand:
            if visible:
                cv2.circle(drawn, (round(x * size), round(y * size)), size // 100, colour, -1)
    return drawn


def _of_height(picture: Pixels) -> Pixels:
    height, width, _ = picture.shape
    size = (max(1, round(width * _HEIGHT_PX / height)), _HEIGHT_PX)
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)


def _jpeg(picture: NDArray[np.uint8]) -> bytes:
    done, content = cv2.imencode(
        ".jpg", np.ascontiguousarray(picture[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY]
    )
    assert done
    return content.tobytes()
