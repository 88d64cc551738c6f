"""When the frames of a real-time session are due, on the wall clock."""

from __future__ import annotations

import math
from fractions import Fraction

from mirrorme_service.wall_clock import WallClock


class SessionPace:
    """Frame n is due n / frame rate after the start, and pauses move what follows.

    Counted from the start in whole frames, so no error adds up.
    """

    def __init__(self, clock: WallClock, frame_rate: Fraction, start_s: float) -> None:
        self._clock = clock
        self._frame_rate = frame_rate
        self._start_s = start_s
        self._paused_s: float | None = None

    @property
    def frame_s(self) -> float:
        """How long a frame lasts."""
        return float(1 / self._frame_rate)

    @property
    def is_paused(self) -> bool:
        """No frame is due."""
        return self._paused_s is not None

    @property
    def elapsed_s(self) -> float:
        """Since the start, pauses left out; negative before it."""
        now_s = self._clock.now_s() if self._paused_s is None else self._paused_s
        return now_s - self._start_s

    def due_s(self, frame: int) -> float:
        """When a frame is to be sent."""
        return self._start_s + float(frame / self._frame_rate)

    def frame_at(self, time_s: float) -> int:
        """The frame whose time it is; negative before the start."""
        frame = math.floor((time_s - self._start_s) * float(self._frame_rate))
        # In floating point a frame's own time may fall just before it.
        return frame + 1 if self.due_s(frame + 1) <= time_s else frame

    def pause(self) -> None:
        """From now on no time passes. Idempotent."""
        if self._paused_s is None:
            self._paused_s = self._clock.now_s()

    def resume(self) -> None:
        """Time goes on where it stood. Idempotent."""
        if self._paused_s is not None:
            self._start_s += self._clock.now_s() - self._paused_s
            self._paused_s = None
