"""Frames as raw pixels."""

from __future__ import annotations

import numpy as np

from mirrorme_service.frame_encoder import EncodedFrame, Frames
from mirrorme_service.yuv_converter import YuvConverter


class Rgb24Encoder:
    """Height x width x 3 bytes, R first."""

    def encode(self, frames: Frames, *, force_key_frame: bool = False) -> list[EncodedFrame]:
        """Copies each frame: every frame is a key frame anyway."""
        return [EncodedFrame(frame.tobytes(), is_key_frame=True) for frame in frames]

    def close(self) -> None:
        """Holds nothing."""


class I420Encoder:
    """Planes Y, U, V, chroma halved in both directions, BT.709 limited range."""

    def __init__(self) -> None:
        self._converter = YuvConverter()

    def encode(self, frames: Frames, *, force_key_frame: bool = False) -> list[EncodedFrame]:
        """Converts each frame: every frame is a key frame anyway."""
        return [
            EncodedFrame(
                np.asarray(self._converter.convert(frame).to_ndarray()).tobytes(),
                is_key_frame=True,
            )
            for frame in frames
        ]

    def close(self) -> None:
        """Nothing to free."""
