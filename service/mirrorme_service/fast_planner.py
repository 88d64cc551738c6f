"""Chunks as fast as possible: the video is the audio, and each chunk is made once that is there.

A chunk is planned as soon as its audio window is complete, and its conditions are settled then. So
what a message can still change depends on the messages before it and not on how fast the engines
are, and the same stream gives the same frames on every run.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from mirrorme_service.chunk_plan import ChunkPlan, FrameChunk
from mirrorme_service.session_counts import SessionCounts
from mirrorme_service.session_state import SessionState


class FastPlanner:
    """See `Planner`."""

    def __init__(
        self,
        state: SessionState,
        lookahead_chunks: int,
        counts: SessionCounts,
        now_s: Callable[[], float],
    ) -> None:
        self._state = state
        self._lookahead_chunks = lookahead_chunks
        self._counts = counts
        self._now_s = now_s
        self._plans: deque[ChunkPlan | None] = deque()
        self._changed = asyncio.Event()

    async def next(self) -> ChunkPlan | None:
        """See `Planner`."""
        while not self._plans:
            self._changed.clear()
            await self._changed.wait()
        return self._plans.popleft()

    def heard(self) -> None:
        """See `Planner`."""
        state, clock = self._state, self._state.clock
        timeline = state.timeline
        timeline.add_speech(state.speech.pull(state.speech.num_samples))
        while timeline.end_sample >= clock.samples_needed(state.next_chunk):
            self._plan(clock.chunk_frames)
        if state.is_finished:
            self._plan_rest()
        self._changed.set()

    def restart(self, chunk: int) -> None:
        """See `Planner`."""
        self._plans.clear()
        self._state.next_chunk = chunk
        self.heard()

    def wake(self) -> None:
        """Pauses hold what is delivered, not what is made."""

    def made(self, chunk: FrameChunk) -> None:
        """Nothing here depends on how fast that was."""

    def _plan_rest(self) -> None:
        """The last chunks, padded with silence, and then the end."""
        state, clock = self._state, self._state.clock
        num_frames = clock.first_frame_from(state.timeline.end_sample)
        num_chunks = clock.num_chunks(num_frames) if num_frames > state.next_frame else 0
        while state.next_chunk < num_chunks:
            rest = num_frames - state.next_chunk * clock.chunk_frames
            self._plan(min(rest, clock.chunk_frames))
        for _ in range(self._lookahead_chunks if num_chunks else 0):
            self._plan(0)
        self._plans.append(None)

    def _plan(self, num_frames: int) -> None:
        state = self._state
        if self._counts.first_chunk_heard_s is None:
            self._counts.first_chunk_heard_s = self._now_s()
        conditions = state.conditions.of_chunk(state.next_chunk)
        plan = ChunkPlan(state.next_chunk, num_frames, conditions, state.identity)
        self._plans.append(plan)
        state.next_chunk += 1
