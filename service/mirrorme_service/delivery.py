"""Frames to responses: encoded, packed, with the events between them, in stream order."""

from __future__ import annotations

import asyncio
import time

from mirrorme.animate.v1 import animation_pb2 as pb

from mirrorme_service.clock import MediaClock
from mirrorme_service.frame_encoder import FrameEncoder
from mirrorme_service.frame_packer import FramePacker
from mirrorme_service.generator import FrameChunk
from mirrorme_service.metrics import Metrics
from mirrorme_service.session_counts import SessionCounts
from mirrorme_service.session_state import SessionState
from mirrorme_service.utterances import Border


class Delivery:
    """One session's way from frames to responses. The encoder is closed by who opened it."""

    def __init__(
        self,
        clock: MediaClock,
        state: SessionState,
        encoder: FrameEncoder,
        packer: FramePacker,
        encoding: pb.FrameEncoding,
        counts: SessionCounts,
        metrics: Metrics,
    ) -> None:
        self._clock = clock
        self._state = state
        self._encoder = encoder
        self._packer = packer
        self._encoding = pb.FrameEncoding.Name(encoding).removeprefix("FRAME_ENCODING_").lower()
        self._counts = counts
        self._metrics = metrics
        self._utterance = 0
        self._next_frame = 0

    async def responses(self, chunk: FrameChunk) -> list[pb.StreamAnimateResponse]:
        """What is sent for a chunk: batches of frames, with events where they belong."""
        started = time.perf_counter()
        encoded = await asyncio.to_thread(self._encoder.encode, chunk.frames)
        self._metrics.chunk_stage.labels("frame_encoding").observe(time.perf_counter() - started)
        responses = []
        first = chunk.first_frame
        base_sample = self._clock.first_sample(first)
        stop = first + len(encoded)
        while first < stop:
            responses += self._events_until(first)
            end = min(stop, self._state.utterances.next_border_frame or stop)
            first_sample, end_sample = map(self._clock.first_sample, (first, end))
            batches = self._packer.pack(
                first,
                encoded[first - chunk.first_frame : end - chunk.first_frame],
                chunk.pcm[first_sample - base_sample : end_sample - base_sample],
                epoch=self._state.epoch,
                utterance=self._utterance,
                is_idle=False,
            )
            responses += [pb.StreamAnimateResponse(frames=batch) for batch in batches]
            first = end
        self._next_frame = stop
        return responses

    def finish(self) -> list[pb.StreamAnimateResponse]:
        """What is sent after the last frame."""
        return self._events_until(self._next_frame)

    def sent(self, batch: pb.FrameBatch) -> None:
        """Counts frames that were sent."""
        counts, now = self._counts, time.perf_counter()
        if counts.first_frame_s is None:
            counts.first_frame_s = now
            if counts.first_frame_latency_s is not None:
                self._metrics.first_frame.observe(counts.first_frame_latency_s)
        num_bytes = sum(len(frame.data) for frame in batch.frames)
        counts.num_frames += len(batch.frames)
        counts.num_frame_bytes += num_bytes
        self._metrics.frames.labels(self._encoding).inc(len(batch.frames))
        self._metrics.frame_bytes.labels(self._encoding).inc(num_bytes)

    def _events_until(self, frame: int) -> list[pb.StreamAnimateResponse]:
        borders = self._state.utterances.pop_until(frame)
        return [pb.StreamAnimateResponse(event=self._event(border)) for border in borders]

    def _event(self, border: Border) -> pb.SessionEvent:
        event = pb.SessionEvent(
            frame_index=border.frame,
            sample_index=self._clock.first_sample(border.frame),
            epoch=self._state.epoch,
        )
        if border.starts:
            self._utterance = border.utterance
            event.utterance_started.utterance = border.utterance
        else:
            event.utterance_finished.utterance = border.utterance
        return event
