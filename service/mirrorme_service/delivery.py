"""Frames to responses, and responses to the client: encoded, packed, in stream order, in time.

The one that sends. Between the frames stand the events, each at its place.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

from mirrorme.animate.v1 import animation_pb2 as pb

from mirrorme_service.ack_window import AckWindow
from mirrorme_service.delivery_events import DeliveryEvents
from mirrorme_service.frame_buffer import FrameRun
from mirrorme_service.frame_encoder import EncodedFrame, FrameEncoder
from mirrorme_service.frame_gate import FrameGate
from mirrorme_service.frame_packer import FramePacker
from mirrorme_service.metrics import Metrics
from mirrorme_service.session_counts import SessionCounts
from mirrorme_service.session_state import SessionState
from mirrorme_service.wall_clock import WallClock

Send: TypeAlias = Callable[[pb.StreamAnimateResponse], Awaitable[None]]

# Of a frame's time. Later than that, a frame counts as late.
_LATE_FRAMES = 0.5


class Delivery:
    """One session's way from frames to the client. The encoder is closed by who opened it."""

    def __init__(
        self,
        state: SessionState,
        gate: FrameGate,
        acks: AckWindow,
        encoder: FrameEncoder,
        packer: FramePacker,
        encoding: pb.FrameEncoding,
        clock: WallClock,
        counts: SessionCounts,
        metrics: Metrics,
        algorithmic_s: float,
        *,
        wanted_frame: int,
    ) -> None:
        """`wanted_frame`: frames and events before this one are not sent: the client has them."""
        self._state = state
        self._gate = gate
        self._acks = acks
        self._encoder = encoder
        self._packer = packer
        self._encoding = pb.FrameEncoding.Name(encoding).removeprefix("FRAME_ENCODING_").lower()
        self._clock = clock
        self._counts = counts
        self._metrics = metrics
        self._algorithmic_s = algorithmic_s
        self._encode_s = 0.0
        """Of the last frames."""
        self._wanted_frame = wanted_frame
        self._events = DeliveryEvents(state, counts, metrics)
        self._changed = asyncio.Event()
        self._pending: FrameRun | None = None
        """Encoded or being encoded, and not sent."""
        self._needs_key_frame = False
        self._notices: deque[pb.SessionEvent] = deque()
        self._interrupted_s: float | None = None
        """When an interrupt came, while what is stale was being written."""
        self._is_writing = False
        self.released = asyncio.Event()
        """Set whenever frames were delivered."""

    def wake(self) -> None:
        """Something changed that may let frames leave."""
        self._changed.set()

    def tell(self, event: pb.SessionEvent) -> None:
        """Sends an event at the next chance, before any further frame."""
        event.frame_index = self._state.next_frame
        event.sample_index = self._state.clock.first_sample(self._state.next_frame)
        event.epoch = self._state.epoch
        self._notices.append(event)
        self._changed.set()

    def drop_from(self, frame: int) -> None:
        """Frames from this one on are stale, wherever they are."""
        if self._pending is not None and self._pending.stop_frame > frame:
            self._pending = None
        if self._is_writing:
            self._interrupted_s = self._clock.now_s()
        else:
            self._metrics.barge_in.observe(0)
        self._changed.set()

    async def run(self, send: Send) -> None:
        """Delivers until the gate says that it is over."""
        while True:
            self._changed.clear()
            self._state.mark(self._counts.of_frames)
            await self._send_events(send)
            if self._gate.is_over():
                await self._send_events(send, to_the_end=True)
                return
            run = self._gate.next_run()
            if run is None:
                await self._clock.wait(self._changed, self._gate.wake_s())
                continue
            for event in self._events.of_chunk(run.plan):
                await self._send_event(send, event)
            run = self._uniform(run)
            if run.first_frame < self._wanted_frame:
                self._pass(run)
            else:
                await self._deliver(send, run)

    async def _deliver(self, send: Send, run: FrameRun) -> None:
        """Encodes frames ahead of their time and sends them when it comes."""
        self._pending = run
        started = time.perf_counter()
        encode = self._encoder.encode
        encoded = await asyncio.to_thread(encode, run.frames, force_key_frame=self._needs_key_frame)
        self._encode_s = time.perf_counter() - started
        self._metrics.chunk_stage.labels("frame_encoding").observe(self._encode_s)
        self._needs_key_frame = False
        while self._pending is run:
            due_s = self._gate.due_s(run)
            if due_s is not None and due_s <= self._clock.now_s():
                self._pending = None
                await self._send_run(send, run, encoded, due_s)
                return
            self._changed.clear()
            await self._send_events(send)
            if self._pending is run:
                await self._clock.wait(self._changed, due_s)
        # The encoder has seen frames that the client will not.
        self._needs_key_frame = True

    def _uniform(self, run: FrameRun) -> FrameRun:
        """The first frames of a run, alike in epoch, utterance and idleness."""
        state, clock = self._state, self._state.clock
        change = state.timeline.next_change(clock.first_sample(run.first_frame))
        stops = [
            run.stop_frame,
            state.timeline.utterances.next_border_frame,
            clock.first_frame_from(change) if change is not None else None,
            state.cuts[0].frame if state.cuts else None,
            self._wanted_frame,
        ]
        # A change within the first frame's time belongs to the next frame.
        return run.until(min(stop for stop in stops if stop is not None and stop > run.first_frame))

    def _pass(self, run: FrameRun) -> None:
        """Leaves out frames that the client has from another stream."""
        state, clock, counts = self._state, self._state.clock, self._counts
        if state.timeline.is_speech(clock.first_sample(run.first_frame)):
            state.last_speech_frame = run.stop_frame - 1
        else:
            counts.num_idle_frames += len(run.frames)
        counts.num_frames += len(run.frames)
        state.next_frame = run.stop_frame
        state.next_audio_sample = min(clock.first_sample(run.stop_frame), state.timeline.end_sample)
        state.release()
        self.released.set()

    async def _send_run(
        self, send: Send, run: FrameRun, encoded: Sequence[EncodedFrame], due_s: float
    ) -> None:
        state, clock = self._state, self._state.clock
        first_sample = clock.first_sample(run.first_frame)
        stop_sample = clock.first_sample(run.stop_frame)
        if not run.is_held:  # else the silence that it is shown for may not be settled yet
            stop_sample = min(stop_sample, state.timeline.end_sample)
        is_idle = not state.timeline.is_speech(first_sample)
        batches = self._packer.pack(
            run.first_frame,
            encoded,
            state.timeline.pcm.read(first_sample, stop_sample),
            epoch=state.epoch,
            utterance=state.utterance,
            is_idle=is_idle,
            left_out=state.timeline.pcm.read(state.next_audio_sample, first_sample),
        )
        # From here on these frames are delivered: what comes now is too late for them.
        state.next_frame, state.next_audio_sample = run.stop_frame, stop_sample
        if not is_idle:
            state.last_speech_frame = run.stop_frame - 1
        self._acks.sent(run.first_frame, run.stop_frame)
        self._gate.sent(run)
        for batch in batches:
            await self._write(send, pb.StreamAnimateResponse(frames=batch))
            self._count(batch, due_s)
        state.release()
        self.released.set()

    async def _send_events(self, send: Send, *, to_the_end: bool = False) -> None:
        while self._notices:
            await self._send_event(send, self._notices.popleft())
        for event in self._events.due(to_the_end=to_the_end):
            await self._send_event(send, event)

    async def _send_event(self, send: Send, event: pb.SessionEvent) -> None:
        if event.frame_index < self._wanted_frame:
            return
        await self._write(send, pb.StreamAnimateResponse(event=event))

    async def _write(self, send: Send, response: pb.StreamAnimateResponse) -> None:
        self._is_writing = True
        await send(response)
        self._is_writing = False
        if self._interrupted_s is not None:
            self._metrics.barge_in.observe(self._clock.now_s() - self._interrupted_s)
            self._interrupted_s = None

    def _count(self, batch: pb.FrameBatch, due_s: float) -> None:
        counts, now_s = self._counts, self._clock.now_s()
        if counts.first_frame_s is None and not batch.is_idle:
            counts.first_frame_s = now_s
            if (latency_s := counts.first_frame_latency_s) is not None:
                compute_s = counts.compute_s + self._encode_s
                self._metrics.first_frame_sent(
                    latency_s, compute_s, self._algorithmic_s, is_live=due_s > float("-inf")
                )
        num_frames, num_bytes = len(batch.frames), sum(len(frame.data) for frame in batch.frames)
        counts.num_frames += num_frames
        counts.num_frame_bytes += num_bytes
        self._metrics.frames.labels(self._encoding).inc(num_frames)
        self._metrics.frame_bytes.labels(self._encoding).inc(num_bytes)
        if batch.is_idle:
            counts.num_idle_frames += num_frames
            self._metrics.frames_idle.inc(num_frames)
        if due_s > float("-inf"):
            late_s = now_s - due_s
            self._metrics.frame_lateness.observe(late_s)
            if late_s > _LATE_FRAMES / float(self._state.clock.frame_rate):
                counts.num_late_frames += num_frames
                self._metrics.deadline_misses.inc(num_frames)
