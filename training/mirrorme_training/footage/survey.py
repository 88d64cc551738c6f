"""The first walk through a video: its shots, its faces, and which squares to look at closely."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from mirrorme_training.footage.errors import VideoError
from mirrorme_training.footage.footage_config import FootageConfig, Framing
from mirrorme_training.footage.framing import Crop, choose_crop, judge_faces, main_person
from mirrorme_training.footage.landmarks import FaceBox, Landmarker, Pixels
from mirrorme_training.footage.shots import ShotFinder
from mirrorme_training.footage.source_video import SourceVideo
from mirrorme_training.footage.verdicts import Stretch, Verdict, stretches, without_short
from mirrorme_training.motion_noise import FRAME_RATE

_DETECTION_PX = 640
_TAKE_S = 60
"""Longer stretches are split: a take's pictures are held in memory."""


@dataclass(frozen=True)
class Take:
    """A stretch of a shot that shows one person well."""

    framing: Framing
    crop: Crop
    frames: range


@dataclass(frozen=True)
class Dropped:
    """A stretch that is not used in one framing."""

    framing: Framing
    stretch: Stretch
    detail: str = ""


@dataclass(frozen=True)
class Survey:
    """What is known of a video after the first walk."""

    num_frames: int
    takes: list[Take]
    dropped: list[Dropped]


def survey(
    video: SourceVideo, landmarker: Landmarker, config: FootageConfig,
    watch: Callable[[int, Pixels], None],
) -> Survey:  # fmt: skip
    """Walks through the video.

    Args:
        watch: told each frame's number, and the frame made smaller.

    Raises:
        VideoError: not a frame can be decoded.
    """
    finder = ShotFinder()
    faces: list[list[FaceBox]] = []
    size_px = (0, 0)
    for picture in video.frames():
        height, width, _ = picture.shape
        if faces and (width, height) != size_px:
            raise VideoError("its pictures change their size on the way")
        size_px = (width, height)
        small = _shrunk(picture, _DETECTION_PX)
        finder.push(small)
        faces.append(landmarker.faces(small))
        watch(len(faces) - 1, small)
    takes: list[Take] = []
    dropped: list[Dropped] = []
    for shot in finder.shots():
        here = faces[shot.start : shot.stop]
        person = main_person(here)
        for framing in config.framings:
            crop = choose_crop(framing, person, *size_px)
            if crop is None:
                none = all(box is None for box in person)
                verdict = Verdict.NO_FACE if none else _no_room(framing)
                dropped.append(Dropped(framing, Stretch(shot.start, shot.stop, verdict)))
                continue
            verdicts = judge_faces(here, person, crop, size_px, config)
            for part in stretches(without_short(verdicts, config.min_frames), shot.start):
                if part.verdict != Verdict.KEPT:
                    detail = _detail(part.verdict, crop)
                    dropped.append(Dropped(framing, part, detail))
                    continue
                takes += [Take(framing, crop, frames) for frames in _split(part, config)]
    return Survey(len(faces), takes, dropped)


def _no_room(framing: Framing) -> Verdict:
    return Verdict.FACE_CUT if framing == "close_up" else Verdict.NO_BODY


def _detail(verdict: Verdict, crop: Crop) -> str:
    return f"a crop of {crop.side_px} pixels" if verdict == Verdict.FACE_SMALL else ""


def _split(part: Stretch, config: FootageConfig) -> list[range]:
    count = -(-len(part) // (_TAKE_S * FRAME_RATE))
    edges = np.linspace(part.start, part.stop, count + 1).round().astype(int).tolist()
    return [range(a, b) for a, b in itertools.pairwise(edges)]


def _shrunk(picture: Pixels, side_px: int) -> Pixels:
    height, width, _ = picture.shape
    scale = side_px / max(height, width)
    if scale >= 1:
        return picture
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
