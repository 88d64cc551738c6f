"""One JPEG file a frame, by libjpeg-turbo."""

from __future__ import annotations

import numpy as np
import simplejpeg

from mirrorme_service.disclosure import mark_jpeg
from mirrorme_service.frame_encoder import EncodedFrame, Frames

# From here on a caller wants fine colour edges more than small files.
_FULL_COLOUR_QUALITY = 95


class JpegEncoder:
    """Quality 1 to 100; colour at half resolution below 95."""

    def __init__(self, quality: int) -> None:
        self._quality = quality
        self._subsampling = "444" if quality >= _FULL_COLOUR_QUALITY else "420"

    def encode(self, frames: Frames, *, force_key_frame: bool = False) -> list[EncodedFrame]:
        """Encodes each frame by itself: every frame is a key frame anyway."""
        return [
            EncodedFrame(mark_jpeg(self._encode(frame)), is_key_frame=True)
            for frame in np.ascontiguousarray(frames)
        ]

    def _encode(self, frame: Frames) -> bytes:
        return simplejpeg.encode_jpeg(
            frame, self._quality, colorspace="RGB", colorsubsampling=self._subsampling
        )

    def close(self) -> None:
        """Holds nothing."""
