"""Which frames leave next, and when: as fast as possible, or by the clock.

Gates stand before the encoder. A frame that is left out was never encoded, so an H.264 stream goes
on from the frame that was sent before it.
"""

from __future__ import annotations

from typing import Protocol

from mirrorme_service.ack_window import AckWindow
from mirrorme_service.frame_buffer import FrameBuffer, FrameRun
from mirrorme_service.metrics import Metrics
from mirrorme_service.session_counts import SessionCounts
from mirrorme_service.session_pace import SessionPace
from mirrorme_service.session_state import SessionState
from mirrorme_service.wall_clock import WallClock


class FrameGate(Protocol):
    """Asked again whenever something changed."""

    def is_over(self) -> bool:
        """Nothing more is delivered."""
        ...

    def next_run(self) -> FrameRun | None:
        """The frames to encode now; None: wait until something changes, or `wake_s`."""
        ...

    def wake_s(self) -> float | None:
        """When `next_run` is to be asked again though nothing changed."""
        ...

    def due_s(self, run: FrameRun) -> float | None:
        """When an encoded run is to be sent; None: not before something changes."""
        ...

    def sent(self, run: FrameRun) -> None:
        """A run leaves; others that were encoded were dropped."""
        ...


class FastGate:
    """Everything, at once, as the client acknowledges it."""

    def __init__(self, state: SessionState, buffer: FrameBuffer, acks: AckWindow) -> None:
        self._state = state
        self._buffer = buffer
        self._acks = acks

    def is_over(self) -> bool:
        """See `FrameGate`."""
        self._buffer.drop_before(self._state.next_frame)
        return self._buffer.is_ended and self._buffer.is_empty

    def next_run(self) -> FrameRun | None:
        """See `FrameGate`."""
        run = None if self._state.is_paused else self._buffer.run_from(self._state.next_frame)
        room = self._acks.room
        if run is None or room is None:
            return run
        return run.until(min(run.stop_frame, run.first_frame + room)) if room else None

    def wake_s(self) -> float | None:
        """See `FrameGate`."""
        return None

    def due_s(self, run: FrameRun) -> float | None:
        """See `FrameGate`."""
        return None if self._state.is_paused else float("-inf")

    def sent(self, run: FrameRun) -> None:
        """Nothing here depends on it."""


class LiveGate:
    """One frame at a time, each in its own time or not at all."""

    def __init__(
        self,
        state: SessionState,
        buffer: FrameBuffer,
        acks: AckWindow,
        pace: SessionPace,
        clock: WallClock,
        counts: SessionCounts,
        metrics: Metrics,
    ) -> None:
        self._state = state
        self._buffer = buffer
        self._acks = acks
        self._pace = pace
        self._clock = clock
        self._counts = counts
        self._metrics = metrics
        self._settling = False
        """An interrupt dropped what was there; nothing new is there yet."""
        self._shown: FrameRun | None = None
        """The last frame that was sent, to be shown on meanwhile."""

    def is_over(self) -> bool:
        """See `FrameGate`."""
        state = self._state
        ended = state.is_finished and not state.speech.num_samples
        return ended and state.next_frame >= state.end_frame

    def settle(self) -> None:
        """From here on the last picture is shown on, until new ones are there."""
        self._settling = True

    def next_run(self) -> FrameRun | None:
        """See `FrameGate`."""
        if self._pace.is_paused:
            return None
        self._leave_out_late_ones()
        frame = self._state.next_frame
        if self._acks.room == 0:
            return None
        run = self._buffer.run_from(frame)
        if run is not None:
            self._settling = False
            run = run.until(frame + 1)
        elif self._settling and self._shown is not None and self._is_due(frame):
            run = FrameRun(self._shown.plan, frame, self._shown.frames, is_held=True)
        return run

    def wake_s(self) -> float | None:
        """See `FrameGate`."""
        if self._pace.is_paused:
            return None
        frame = self._state.next_frame
        is_held = self._settling and not self._is_due(frame)
        return self._pace.due_s(frame if is_held else frame + 1)

    def _is_due(self, frame: int) -> bool:
        return self._pace.due_s(frame) <= self._clock.now_s()

    def due_s(self, run: FrameRun) -> float | None:
        """See `FrameGate`."""
        return None if self._pace.is_paused else self._pace.due_s(run.first_frame)

    def sent(self, run: FrameRun) -> None:
        """See `FrameGate`."""
        self._shown = run

    def _leave_out_late_ones(self) -> None:
        """Passes the frames whose time is over."""
        state = self._state
        current = self._pace.frame_at(self._clock.now_s())
        if state.is_finished and not state.speech.num_samples:
            current = min(current, state.end_frame)
        num_gone = current - state.next_frame
        if num_gone <= 0:
            return
        is_there = self._buffer.run_from(state.next_frame) is not None
        reason = "client" if is_there else "interrupted" if self._settling else "late"
        self._metrics.frames_skipped.labels(reason).inc(num_gone)
        self._counts.num_skipped_frames += num_gone
        state.next_frame = current
