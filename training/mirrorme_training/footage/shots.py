"""Where a video is cut, by PySceneDetect."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
from scenedetect import FrameTimecode
from scenedetect.detectors import AdaptiveDetector

from mirrorme_training.footage.landmarks import Pixels
from mirrorme_training.motion_noise import FRAME_RATE

_MIN_SHOT_FRAMES = 6
_SIDE_PX = 256


class ShotFinder:
    """Takes a video's frames in order, and then knows its shots."""

    def __init__(self) -> None:
        self._detector = AdaptiveDetector(min_scene_len=_MIN_SHOT_FRAMES)
        self._cuts: list[int] = []
        self._num_frames = 0

    def push(self, picture: Pixels) -> None:
        """The next frame."""
        height, width, _ = picture.shape
        scale = min(1.0, _SIDE_PX / max(height, width))
        small = cv2.resize(
            np.ascontiguousarray(picture[..., ::-1]),
            (max(1, round(width * scale)), max(1, round(height * scale))),
            interpolation=cv2.INTER_AREA,
        )
        timecode = FrameTimecode(self._num_frames, fps=float(FRAME_RATE))
        found = self._detector.process_frame(timecode, small)
        self._cuts += [cut.frame_num for cut in found]
        self._num_frames += 1

    def shots(self) -> list[range]:
        """Frames of each shot."""
        bounds = [0, *self._cuts, self._num_frames]
        return [range(a, b) for a, b in itertools.pairwise(bounds) if b > a]
