"""How a face moves for no reason: breath and blinks always, glances and nods while nothing is said.

A function of the seed, the frame and where speech is: nothing is remembered, so a chunk that is
made again moves alike. Only controls that the model offers and the client leaves alone are moved.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from mirrorme_service.clock import MediaClock
from mirrorme_service.model import Conditions
from mirrorme_service.timeline import Timeline

# Idle motion fades in and out over so many frames, half a second.
_FADE_FRAMES = 12

_BLINKS = ("eyeBlinkLeft", "eyeBlinkRight")
_BLINK_SHAPE = (0.4, 0.9, 1.0, 0.7, 0.3)
_BLINK_PERIOD_FRAMES = 90
_GLANCE_PERIOD_FRAMES = 72
_GLANCE_EASE_FRAMES = 4
# Control: amplitude in its unit and frequency in Hz of two waves.
_WAVES = {
    "head_pitch": ((0.5, 0.25), (0.4, 0.061)),
    "head_yaw": ((0.9, 0.071), (0.5, 0.113)),
    "head_roll": ((0.4, 0.053), (0.2, 0.097)),
    "breath": ((0.85, 0.26), (0.15, 0.053)),
}
_GLANCES = {"gaze_x": 0.25, "gaze_y": 0.12}
# Speech does not stop them.
_ALWAYS = ("breath", *_BLINKS)
_BLINK_STREAM, _GLANCE_STREAM, _WAVE_STREAM = range(3)


class IdleMotion:
    """The idle motion of one session.

    Args:
        seed: of the session.
        names: of the model's controls, in its order.
        timeline: says where speech is.
    """

    def __init__(
        self, seed: int, names: Sequence[str], clock: MediaClock, timeline: Timeline
    ) -> None:
        self._seed = seed
        self._names = names
        self._clock = clock
        self._timeline = timeline

    def applied(self, conditions: Conditions, chunk: int) -> Conditions:
        """The conditions of a chunk, whose audio is settled, with idle motion where it is free."""
        num_frames = len(conditions.controls)
        first_frame = chunk * self._clock.chunk_frames
        levels = [self._level(first_frame + i) for i in range(num_frames)]
        values = conditions.controls.copy()
        weights = conditions.control_weights.copy()
        for column, name in enumerate(self._names):
            if conditions.control_weights[:, column].any():
                continue
            for row, idle in enumerate(levels):
                value = self._value(name, first_frame + row)
                level = 1.0 if name in _ALWAYS else idle
                if value is not None and level:
                    values[row, column], weights[row, column] = value, level
        return replace(conditions, controls=values, control_weights=weights)

    def _level(self, frame: int) -> float:
        """How idle a frame is, 0 to 1: the share of the last frames without speech."""
        frames = range(max(0, frame - _FADE_FRAMES + 1), frame + 1)
        is_speech = self._timeline.is_speech
        num_idle = sum(not is_speech(self._clock.first_sample(index)) for index in frames)
        return num_idle / len(frames)

    def _value(self, name: str, frame: int) -> float | None:
        """None: left to the model."""
        if name in _BLINKS:
            return self._blink(frame)
        if name in _WAVES:
            return self._wave(name, frame)
        if name in _GLANCES:
            return self._glance(name, frame)
        return None

    def _blink(self, frame: int) -> float:
        """Within one chunk: models shut eyes by halves that shut in two chunks."""
        period = frame // _BLINK_PERIOD_FRAMES
        draw = _drawn(self._seed, _BLINK_STREAM, period)[0]
        length = self._clock.chunk_frames
        spare = max(0, _BLINK_PERIOD_FRAMES - 2 * length)
        earliest = period * _BLINK_PERIOD_FRAMES + int(draw * spare)
        chunk = -(-earliest // length)
        into = frame - chunk * length - (length - len(_BLINK_SHAPE) + 1) // 2
        return _BLINK_SHAPE[into] if 0 <= into < len(_BLINK_SHAPE) else 0.0

    def _wave(self, name: str, frame: int) -> float:
        phases = _drawn(self._seed, _WAVE_STREAM, list(_WAVES).index(name))
        time_s = float(frame / self._clock.frame_rate)
        return sum(
            amplitude * math.sin(2 * math.pi * (frequency_hz * time_s + phase))
            for (amplitude, frequency_hz), phase in zip(_WAVES[name], phases, strict=False)
        )

    def _glance(self, name: str, frame: int) -> float:
        """Straight ahead, and once a period aside for a while."""
        period, at = divmod(frame, _GLANCE_PERIOD_FRAMES)
        draws = _drawn(self._seed, _GLANCE_STREAM, period)
        length = round(16 + 20 * draws[0])
        into = at - int(draws[1] * (_GLANCE_PERIOD_FRAMES - length))
        if not 0 <= into < length:
            return 0.0
        ease = min(1.0, (into + 1) / _GLANCE_EASE_FRAMES, (length - into) / _GLANCE_EASE_FRAMES)
        aside = 2 * draws[2 + list(_GLANCES).index(name)] - 1
        return ease * aside * _GLANCES[name]


@lru_cache(maxsize=256)
def _drawn(seed: int, stream: int, index: int) -> NDArray[np.float64]:
    """A few numbers of 0 to 1 for one of the seed's streams."""
    key = np.array([seed, (stream << 48) + index], np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=1)).random(4)
