"""What moves by itself: breath and blinks always, the rest in silence, nothing that is given."""

from __future__ import annotations

from typing import Any

import numpy as np
from mirrorme_engines.fake_manifest import fake_manifest
from mirrorme_service.clock import MediaClock
from mirrorme_service.idle_motion import IdleMotion
from mirrorme_service.model import Conditions
from numpy.typing import NDArray

NAMES = ("jawOpen", "eyeBlinkLeft", "head_yaw", "gaze_x", "breath")
NUM_CHUNKS = 60


class Said:
    """A timeline that is all speech, or all silence."""

    def __init__(self, *, speech: bool) -> None:
        self._speech = speech

    def is_speech(self, sample: int) -> bool:
        return self._speech


def moved(
    *, speech: bool, given: str | None = None
) -> tuple[dict[str, NDArray[np.float32]], dict[str, NDArray[np.float32]]]:
    """Values and weights of each control over all frames."""
    clock = MediaClock.of(fake_manifest())
    timeline: Any = Said(speech=speech)
    motion = IdleMotion(7, NAMES, clock, timeline)
    size = (clock.chunk_frames, len(NAMES))
    values, weights = np.zeros(size, np.float32), np.zeros(size, np.float32)
    if given is not None:
        values[:, NAMES.index(given)] = 0.3
        weights[:, NAMES.index(given)] = 1.0
    conditions = Conditions(np.zeros((size[0], 2, 21, 3), np.float32), values, weights)
    chunks = [motion.applied(conditions, chunk) for chunk in range(NUM_CHUNKS)]
    return (
        dict(zip(NAMES, np.concatenate([c.controls for c in chunks]).T, strict=True)),
        dict(zip(NAMES, np.concatenate([c.control_weights for c in chunks]).T, strict=True)),
    )


def test_silence_moves_all_but_the_mouth() -> None:
    values, weights = moved(speech=False)
    assert not weights["jawOpen"].any()
    for name in NAMES[1:]:
        assert weights[name][24:].min() == 1 and np.ptp(values[name]) > 0.2, name


def test_speech_leaves_breath_and_blinks() -> None:
    values, weights = moved(speech=True)
    for name in ("jawOpen", "head_yaw", "gaze_x"):
        assert not weights[name].any(), name
    assert weights["breath"].min() == weights["eyeBlinkLeft"].min() == 1
    assert np.ptp(values["breath"]) > 1.5 and values["eyeBlinkLeft"].max() == 1


def test_what_a_client_gives_is_left_alone() -> None:
    values, weights = moved(speech=False, given="head_yaw")
    assert (values["head_yaw"] == np.float32(0.3)).all() and (weights["head_yaw"] == 1).all()
    assert weights["breath"].max() == 1


def test_each_blink_lies_within_a_chunk() -> None:
    values, _ = moved(speech=True)
    chunk_frames = MediaClock.of(fake_manifest()).chunk_frames
    shut = values["eyeBlinkLeft"].reshape(NUM_CHUNKS, chunk_frames)
    blinking = shut[shut.any(axis=1)]
    starts = np.flatnonzero(shut.any(axis=1)) * chunk_frames // 90
    assert starts.tolist() == list(range(len(blinking))), "one in each stretch of 90 frames"
    assert (blinking.max(axis=1) == 1).all() and ((blinking > 0).sum(axis=1) == 5).all()
