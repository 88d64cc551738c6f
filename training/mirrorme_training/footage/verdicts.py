"""Why footage is dropped, and stretches of frames with one verdict."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray


class Verdict(IntEnum):
    """Of a frame or a clip. The first that applies counts, so the order matters."""

    KEPT = 0
    NO_FACE = 1
    SEVERAL_FACES = 2
    FACE_CUT = 3
    FACE_SMALL = 4
    NO_BODY = 5
    FACE_HIDDEN = 6
    TURNED_AWAY = 7
    BLURRED = 8
    TOO_SHORT = 9
    NO_SPEECH = 10
    OTHER_VOICE = 11
    NOISY = 12
    WEAK_SYNC = 13
    OUT_OF_SYNC = 14


SENTENCES: dict[Verdict, str] = {
    Verdict.NO_FACE: "no face is seen",
    Verdict.SEVERAL_FACES: "another face is in the picture",
    Verdict.FACE_CUT: "the face leaves the picture",
    Verdict.FACE_SMALL: "the face is too small",
    Verdict.NO_BODY: "too little of the body is in the picture",
    Verdict.FACE_HIDDEN: "the face is hidden",
    Verdict.TURNED_AWAY: "the head is turned away",
    Verdict.BLURRED: "the face is blurred",
    Verdict.TOO_SHORT: "what is left is too short",
    Verdict.NO_SPEECH: "nobody speaks",
    Verdict.OTHER_VOICE: "somebody speaks, but this mouth rests",
    Verdict.NOISY: "music or noise is nearly as loud as the voice",
    Verdict.WEAK_SYNC: "the mouth does not follow the voice",
    Verdict.OUT_OF_SYNC: "mouth and voice are apart in time",
}


@dataclass(frozen=True)
class Stretch:
    """Frames `start` to `stop - 1` of a video."""

    start: int
    stop: int
    verdict: Verdict

    def __len__(self) -> int:
        return self.stop - self.start


def stretches(verdicts: NDArray[np.int64], start: int = 0) -> Iterator[Stretch]:
    """Neighbours with the same verdict, the first frame being number `start`."""
    edges = np.flatnonzero(np.diff(verdicts)) + 1
    bounds = [0, *edges.tolist(), len(verdicts)]
    for first, stop in itertools.pairwise(bounds):
        if stop > first:
            yield Stretch(start + first, start + stop, Verdict(int(verdicts[first])))


def without_short(verdicts: NDArray[np.int64], min_frames: int) -> NDArray[np.int64]:
    """Good stretches shorter than a clip are too short."""
    result = verdicts.copy()
    for part in stretches(verdicts):
        if part.verdict == Verdict.KEPT and len(part) < min_frames:
            result[part.start : part.stop] = Verdict.TOO_SHORT
    return result


def cut_evenly(part: Stretch, min_frames: int, max_frames: int, step: int) -> list[range]:
    """As few pieces of about the same length as fit; each starts at a multiple of `step`."""
    start = -(-part.start // step) * step
    length = part.stop - start
    if length < min_frames:
        return []
    count = -(-length // max_frames)
    piece = length // count // step * step
    if piece < min_frames:
        count, piece = length // min_frames, -(-min_frames // step) * step
    pieces = [range(start + i * piece, start + (i + 1) * piece) for i in range(count)]
    return [piece for piece in pieces if piece.stop <= part.stop]
