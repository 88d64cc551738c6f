"""Chunks in real time: each is begun as late as it can be in time, with the speech that is there.

Where there is none the chunk is idle. Speech that is still coming in is placed so that what is
there ends with the chunk's window: the next chunk then goes on from it, and the speech is on
screen after the same delay whenever it began. A little of it is held back against a network that
is uneven.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from mirrorme_service.chunk_plan import ChunkPlan, FrameChunk
from mirrorme_service.errors import OutOfRange
from mirrorme_service.idle_motion import IdleMotion
from mirrorme_service.load_governor import LoadGovernor
from mirrorme_service.model import Conditions
from mirrorme_service.session_counts import SessionCounts
from mirrorme_service.session_pace import SessionPace
from mirrorme_service.session_state import SessionState
from mirrorme_service.wall_clock import WallClock

# Of speech that begins and is still coming in, as much is held back as came in at once.
_MIN_HELD_BACK_S, _MAX_HELD_BACK_S = 0.02, 0.15
# Without audio for so long, an utterance that was not ended is taken as it is.
_COMING_IN_S = 0.3


class LivePlanner:
    """See `Planner`. Raises OutOfRange from `next` when the session has its full length."""

    def __init__(
        self,
        state: SessionState,
        clock: WallClock,
        pace: SessionPace,
        governor: LoadGovernor,
        idle_motion: IdleMotion,
        counts: SessionCounts,
        *,
        lookahead_chunks: int,
        max_session_s: float,
        on_end: Callable[[], None],
    ) -> None:
        """`on_end` is called when there is nothing more to plan."""
        self._state = state
        self._clock = clock
        self._pace = pace
        self._governor = governor
        self._idle_motion = idle_motion
        self._counts = counts
        self._num_rest = lookahead_chunks
        self._lookahead_chunks = lookahead_chunks
        self._max_samples = round(max_session_s * state.clock.sample_rate_hz)
        self._max_session_s = max_session_s
        self._on_end = on_end
        self._changed = asyncio.Event()
        self._heard_s = clock.now_s()
        self._is_short_of_speech = False

    async def next(self) -> ChunkPlan | None:
        """See `Planner`."""
        await self._wait_until_due()
        self._leave_out_late_ones()
        state = self._state
        chunk = state.next_chunk
        self._settle(chunk)
        num_frames = state.clock.chunk_frames
        if state.is_finished and not state.speech.num_samples:
            num_frames = min(num_frames, state.end_frame - chunk * num_frames)
            if num_frames <= 0:
                if not self._num_rest:
                    self._on_end()
                    return None
                self._num_rest -= 1
                num_frames = 0
        state.next_chunk += 1
        return ChunkPlan(
            chunk,
            num_frames,
            self._conditions(chunk),
            state.identity,
            self._governor.level,
            self._governor.reason,
            planned_s=self._pace.elapsed_s,
        )

    def heard(self) -> None:
        """See `Planner`."""
        self._heard_s = self._clock.now_s()
        if self._state.is_finished or self._is_short_of_speech:
            self._changed.set()

    def restart(self, chunk: int) -> None:
        """See `Planner`."""
        self._state.next_chunk = chunk
        self._num_rest = self._lookahead_chunks
        self._changed.set()

    def wake(self) -> None:
        """See `Planner`."""
        self._changed.set()

    def made(self, chunk: FrameChunk) -> None:
        """See `Planner`."""
        made_s = self._pace.elapsed_s
        early_s = float(chunk.first_frame / self._state.clock.frame_rate) - made_s
        self._governor.made(made_s - chunk.plan.planned_s, early_s)

    async def _wait_until_due(self) -> None:
        while True:
            self._changed.clear()
            first_frame = self._state.next_chunk * self._state.clock.chunk_frames
            due_s = self._pace.due_s(first_frame) - self._governor.lead_s
            is_due = due_s <= self._clock.now_s()
            self._is_short_of_speech = is_due and self._lacks_speech(self._state.next_chunk)
            if self._is_short_of_speech:
                due_s = self._pace.due_s(first_frame) - self._governor.shortest_lead_s
            is_last = self._state.is_finished and not self._state.speech.num_samples
            if is_last and first_frame >= self._state.end_frame:
                return
            if not self._pace.is_paused and due_s <= self._clock.now_s():
                return
            await self._clock.wait(self._changed, None if self._pace.is_paused else due_s)

    def _lacks_speech(self, chunk: int) -> bool:
        """Whether an utterance would break off in a chunk, the rest of which is on its way."""
        speech, timeline = self._state.speech, self._state.timeline
        if not (timeline.is_speaking and speech.is_open and self._is_coming_in):
            return False
        return (
            timeline.end_sample + speech.num_samples < self._state.clock.window(chunk).stop_sample
        )

    def _leave_out_late_ones(self) -> None:
        """Passes the chunks of which nothing could be shown in time. Their audio goes by."""
        clock = self._state.clock
        there_s = self._clock.now_s() + self._governor.chunk_s
        while self._pace.due_s((self._state.next_chunk + 1) * clock.chunk_frames) <= there_s:
            self._settle(self._state.next_chunk)
            self._state.next_chunk += 1
            self._governor.left_out()

    def _settle(self, chunk: int) -> None:
        """Gives a chunk's window its audio."""
        state, clock = self._state, self._state.clock
        if clock.first_sample(chunk * clock.chunk_frames) >= self._max_samples:
            raise OutOfRange(
                "SESSION_TOO_LONG",
                f"the session is longer than {self._max_session_s:g} s: go on in another session",
                got=f"{self._max_session_s:g} s",
                expected=f"at most {self._max_session_s:g} s",
            )
        num_needed = clock.window(chunk).stop_sample - state.timeline.end_sample
        if num_needed <= 0:
            return
        num_silent = self._num_silent(chunk, num_needed)
        state.timeline.add_silence(num_silent)
        num_spoken = num_needed - num_silent
        # An utterance begins where its first sample is, not before.
        pieces = state.speech.pull(num_spoken) if num_spoken else []
        if pieces and self._counts.first_chunk_heard_s is None:
            self._counts.first_chunk_heard_s = self._heard_s
        state.timeline.add_speech(pieces)
        state.timeline.add_silence(clock.window(chunk).stop_sample - state.timeline.end_sample)

    def _num_silent(self, chunk: int, num_needed: int) -> int:
        """Samples of silence before the speech of a window."""
        state, clock = self._state, self._state.clock
        if state.timeline.is_speaking:
            return 0
        # After an interrupt what is settled may end before what can still be shown.
        first_shown = max(chunk * clock.chunk_frames, state.next_frame)
        num_gone = max(0, clock.first_sample(first_shown) - state.timeline.end_sample)
        num_silent = min(num_needed, num_gone)
        if not state.speech.is_open or not self._is_coming_in:
            return num_silent
        least, most = (
            round(seconds * clock.sample_rate_hz)
            for seconds in (_MIN_HELD_BACK_S, _MAX_HELD_BACK_S)
        )
        num_held_back = min(max(least, state.speech.last_push_samples), most)
        num_ready = max(0, state.speech.num_samples - num_held_back)
        return max(num_silent, num_needed - num_ready)

    @property
    def _is_coming_in(self) -> bool:
        return self._clock.now_s() - self._heard_s <= _COMING_IN_S

    def _conditions(self, chunk: int) -> Conditions:
        return self._idle_motion.applied(self._state.conditions.of_chunk(chunk), chunk)
