"""RGB frames to 4:2:0 planes: BT.709, limited range, by libswscale."""

from __future__ import annotations

import av
import numpy as np
from av.video.reformatter import (
    ColorRange,
    Colorspace,
    Interpolation,
    VideoReformatter,
)
from numpy.typing import NDArray


class YuvConverter:
    """Converts frames of one size. Chroma is the mean of its four pixels.

    The same pixels give the same planes on every machine (no approximating SIMD paths).
    """

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()

    def convert(self, frame: NDArray[np.uint8]) -> av.VideoFrame:
        """A tagged yuv420p frame of uint8 [H, W, 3] with even H and W."""
        return self._reformatter.reformat(
            av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24"),
            format="yuv420p",
            src_colorspace=Colorspace.ITU709,
            dst_colorspace=Colorspace.ITU709,
            src_color_range=ColorRange.JPEG,
            dst_color_range=ColorRange.MPEG,
            interpolation=Interpolation.AREA | Interpolation.ACCURATE_RND | Interpolation.BITEXACT,
            threads=1,
        )
