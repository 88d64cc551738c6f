"""The events of a session that stand at a frame: which are due before the next one."""

from __future__ import annotations

from collections.abc import Iterator

from mirrorme.animate.v1 import animation_pb2 as pb

from mirrorme_service.chunk_plan import ChunkPlan
from mirrorme_service.metrics import Metrics
from mirrorme_service.session_counts import SessionCounts
from mirrorme_service.session_state import Cut, SessionState
from mirrorme_service.utterances import Border


class DeliveryEvents:
    """Gives each event once, in order. Taking an interrupt's raises the epoch."""

    def __init__(self, state: SessionState, counts: SessionCounts, metrics: Metrics) -> None:
        self._state = state
        self._counts = counts
        self._metrics = metrics
        self._portrait_id = state.identity.portrait.portrait_id
        self._level: pb.DegradationLevel = pb.DEGRADATION_LEVEL_NONE

    def due(self, *, to_the_end: bool = False) -> Iterator[pb.SessionEvent]:
        """Interrupts, beginnings and ends of utterances up to the next frame, or all there are."""
        state = self._state
        while state.cuts and (to_the_end or state.cuts[0].frame <= state.next_frame):
            cut = state.cuts.popleft()
            state.marks.tell(cut)
            yield self._interrupted(cut)
        utterances = state.timeline.utterances
        last = utterances.last_border_frame if to_the_end else state.next_frame
        for border in utterances.pop_until(last):
            state.marks.tell(border)
            yield self._border(border)

    def of_chunk(self, plan: ChunkPlan) -> Iterator[pb.SessionEvent]:
        """What is new with the chunk whose frames come next."""
        portrait = plan.identity.portrait
        if portrait.portrait_id != self._portrait_id:
            self._portrait_id = portrait.portrait_id
            changed = pb.PortraitChanged(portrait=portrait)
            yield self._event(self._state.next_frame, portrait_changed=changed)
        if plan.level != self._level:
            self._level = plan.level
            name = pb.DegradationLevel.Name(plan.level).removeprefix("DEGRADATION_LEVEL_").lower()
            self._metrics.degradations.labels(name).inc()
            degraded = pb.Degraded(level=plan.level, reason=plan.reason)
            yield self._event(self._state.next_frame, degraded=degraded)

    def _interrupted(self, cut: Cut) -> pb.SessionEvent:
        state = self._state
        state.epoch += 1
        self._counts.num_interrupts += 1
        last = state.last_speech_frame
        interrupted = pb.Interrupted(dropped_samples=cut.num_dropped_samples)
        if last is not None:
            interrupted.last_kept_frame_index = last
            interrupted.last_kept_sample_index = state.clock.first_sample(last + 1) - 1
        return self._event(max(cut.frame, state.next_frame), interrupted=interrupted)

    def _border(self, border: Border) -> pb.SessionEvent:
        number = border.utterance
        if border.starts:
            self._state.utterance = number
            started = pb.UtteranceStarted(utterance=number)
            return self._event(border.frame, utterance_started=started)
        finished = pb.UtteranceFinished(utterance=number, interrupted=border.interrupted)
        return self._event(border.frame, utterance_finished=finished)

    def _event(self, frame: int, **event: object) -> pb.SessionEvent:
        return pb.SessionEvent(
            frame_index=frame,
            sample_index=self._state.clock.first_sample(frame),
            epoch=self._state.epoch,
            **event,  # pyright: ignore[reportArgumentType]
        )
