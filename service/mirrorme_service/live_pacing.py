"""What a real-time session has and others have not: its clock, its planner, its gate."""

from __future__ import annotations

from collections.abc import Callable

from mirrorme_service.ack_window import AckWindow
from mirrorme_service.config import ServiceConfig
from mirrorme_service.frame_buffer import FrameBuffer
from mirrorme_service.frame_gate import LiveGate
from mirrorme_service.idle_motion import IdleMotion
from mirrorme_service.live_planner import LivePlanner
from mirrorme_service.load_governor import LoadGovernor
from mirrorme_service.metrics import Metrics
from mirrorme_service.model import Model
from mirrorme_service.session_counts import SessionCounts
from mirrorme_service.session_pace import SessionPace
from mirrorme_service.session_state import SessionState
from mirrorme_service.wall_clock import WallClock


class LivePacing:
    """The parts of one session. Its first frame is due as soon as it can be there."""

    def __init__(
        self,
        config: ServiceConfig,
        model: Model,
        state: SessionState,
        buffer: FrameBuffer,
        acks: AckWindow,
        clock: WallClock,
        counts: SessionCounts,
        metrics: Metrics,
        *,
        first_guess_s: float,
        on_end: Callable[[], None],
    ) -> None:
        """See `Session` and `LivePlanner`."""
        media = model.clock
        self._clock = clock
        self._chunk_frames = media.chunk_frames
        chunk_s = float(media.chunk_frames / media.frame_rate)
        self._governor = LoadGovernor(
            chunk_s,
            # A chunk is not there before those that its decoder looks ahead to.
            first_guess_s + model.lookahead_chunks * chunk_s,
            has_cheaper=model.has_cheaper_denoiser,
        )
        # A session that goes on begins with a chunk that its client has a part of.
        first_frame = state.next_chunk * media.chunk_frames
        start_s = clock.now_s() + self._governor.lead_s - float(first_frame / media.frame_rate)
        self.pace = SessionPace(clock, media.frame_rate, start_s)
        if state.is_paused:
            self.pace.pause()
        controls = [control.name for control in model.manifest.controls]
        self.planner = LivePlanner(
            state,
            clock,
            self.pace,
            self._governor,
            IdleMotion(state.seed, controls, media, state.timeline),
            counts,
            lookahead_chunks=model.lookahead_chunks,
            max_session_s=config.max_session_s,
            on_end=on_end,
        )
        self.gate = LiveGate(state, buffer, acks, self.pace, clock, counts, metrics)

    def restart_after_interrupt(self, first_stale: int) -> int:
        """The chunk to make next: the first of which something can be shown even if it is slow.

        One that is there too late for all its frames holds the picture for another chunk.
        """
        self.gate.settle()
        there_s = self._clock.now_s() + self._governor.lead_s
        return max(first_stale, self.pace.frame_at(there_s) // self._chunk_frames)
