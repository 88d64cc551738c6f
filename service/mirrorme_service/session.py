"""One session: from the client's messages to the frames sent.

    intake -> speech, conditions -> planner -> denoiser -> decoder -> buffer -> gate -> delivery

The tasks hand on one chunk each. A client that reads slowly holds the delivery, and so all before
it, and nothing grows. All end together: with the stream, with the first error, or cancelled.

An interrupt takes back, in one go, what is not delivered: speech that waits, chunks that are made
or being made, frames that are encoded. Making starts over from the state at an earlier chunk.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable

from mirrorme.animate.v1 import animation_pb2 as pb

from mirrorme_service.ack_window import AckWindow
from mirrorme_service.chunk_plan import Planner
from mirrorme_service.chunk_work import ChunkWork
from mirrorme_service.config import ServiceConfig
from mirrorme_service.delivery import Delivery, Send
from mirrorme_service.fast_planner import FastPlanner
from mirrorme_service.frame_buffer import FrameBuffer
from mirrorme_service.frame_encoder import open_frame_encoder
from mirrorme_service.frame_gate import FastGate, FrameGate
from mirrorme_service.frame_packer import FramePacker
from mirrorme_service.identity_cache import Identity
from mirrorme_service.intake import Intake
from mirrorme_service.live_pacing import LivePacing
from mirrorme_service.metrics import Metrics
from mirrorme_service.model import Model
from mirrorme_service.served_fields import check_served, unserved_fields
from mirrorme_service.session_counts import SessionCounts
from mirrorme_service.session_record import SessionRecord, session_record
from mirrorme_service.session_state import SessionState
from mirrorme_service.session_watchdog import SessionWatchdog
from mirrorme_service.wall_clock import WallClock

LoadPortrait = Callable[[pb.ChangePortrait], Awaitable[Identity]]

# Decoded chunks that wait for the delivery.
_MAX_CHUNKS = 1


class Session:
    """The life of one stream once its config is accepted. Made and run once.

    Args:
        started: holds the config in force, and is the first response.
        identity: of its portrait.
        load_portrait: for a change of portrait.
        clock: paces and limits.
        first_guess_s: how long a chunk may take, until one was made.
        record: of a session that goes on. None: a new one.
    """

    def __init__(
        self,
        config: ServiceConfig,
        model: Model,
        metrics: Metrics,
        started: pb.SessionStarted,
        identity: Identity,
        load_portrait: LoadPortrait,
        clock: WallClock,
        *,
        first_guess_s: float,
        record: SessionRecord | None = None,
    ) -> None:
        settings = started.effective_config
        self._model = model
        self._metrics = metrics
        self._started = started
        self._load_portrait = load_portrait
        self._clock = clock
        # What the session's parts call back: weakly, so that all it holds is free with its last
        # use, and not when Python happens to look for cycles.
        callbacks = weakref.proxy(self)
        self._unserved = unserved_fields(model.manifest, consent=config.consent_keys is not None)
        self.counts = SessionCounts(clock.now_s())
        self.state = SessionState.start(
            model, settings, identity, max_poses_ahead_s=config.max_poses_ahead_s
        )
        if record is not None:
            record.restore(self.state, self.counts)
        size, output = started.frame_size, settings.output
        self._encoder = open_frame_encoder(
            output, size.width_px, size.height_px, model.clock.frame_rate
        )
        self._acks = AckWindow(settings.max_unacked_frames)
        wanted_frame = 0
        self._taken_over: pb.SessionEvent | None = None
        if record is not None:
            wanted_frame = record.wanted_frame
            self._acks.resume(wanted_frame)
            self.state.marks.acknowledge(wanted_frame)
            self._taken_over = pb.SessionEvent(
                frame_index=wanted_frame,
                sample_index=model.clock.first_sample(wanted_frame),
                epoch=record.mark.epoch,
                taken_over=pb.TakenOver(),
            )
        self.state.mark(self.counts.of_frames)
        self._buffer = FrameBuffer(_MAX_CHUNKS, lambda: callbacks.wake_delivery())
        self._live = None
        engine_timeout_s = config.engine_timeout_s
        if settings.pacing == pb.PACING_REAL_TIME:
            engine_timeout_s = min(engine_timeout_s, config.live_engine_timeout_s)
            self._live = LivePacing(
                config,
                model,
                self.state,
                self._buffer,
                self._acks,
                clock,
                self.counts,
                metrics,
                first_guess_s=first_guess_s,
                on_end=lambda: callbacks.wake_delivery(),
            )
        self._planner = self._new_planner()
        self._work = ChunkWork(
            model,
            self.state,
            metrics,
            self._planner,
            self._buffer,
            self.counts,
            engine_timeout_s,
        )
        self._delivery = Delivery(
            self.state,
            self._gate,
            self._acks,
            self._encoder,
            FramePacker(model.clock, output.encoding, include_audio=settings.include_audio),
            output.encoding,
            clock,
            self.counts,
            metrics,
            started.algorithmic_latency_ms / 1000,
            wanted_frame=wanted_frame,
        )
        self._intake = Intake(
            config,
            self.state,
            self._planner,
            self._acks,
            callbacks,
            self.counts,
            self._delivery.released,
            is_live=self._live is not None,
        )
        self._watchdog = SessionWatchdog(config, clock, is_live=self._live is not None)
        self._portrait: asyncio.Task[None] | None = None
        """Loads the portrait to change to."""
        self._is_all_read = False

    async def run(self, requests: AsyncIterator[pb.StreamAnimateRequest], send: Send) -> None:
        """Animates what `requests` bring until they end; sends everything, the summary last.

        Raises:
            ExceptionGroup: of what the tasks raised.
        """
        send = self._watchdog.watched(send)
        try:
            async with asyncio.TaskGroup() as self._tasks:
                await send(pb.StreamAnimateResponse(started=self._started))
                if self._taken_over is not None:
                    await send(pb.StreamAnimateResponse(event=self._taken_over))
                self._planner.restart(self.state.next_chunk)
                self._work.start(self._tasks)
                others = [
                    self._tasks.create_task(self._read(requests), name="reader"),
                    self._tasks.create_task(self._watchdog.watch(), name="watchdog"),
                ]
                await self._delivery.run(send)
                portrait = [self._portrait] if self._portrait is not None else []
                self._work.stop()
                for task in (*others, *portrait):
                    task.cancel()
            summary = self.counts.summary(self.state, self._clock.now_s())
            await send(pb.StreamAnimateResponse(summary=summary))
        finally:
            self._work.stop()
            self._encoder.close()

    # The client's commands, see `Commands`. None of them waits for engines or for the client.

    def interrupt(self, after_sample: int | None) -> None:
        """Takes back all speech that is not delivered."""
        state, chunk_frames = self.state, self.state.clock.chunk_frames
        cut = state.cut(after_sample)
        self._delivery.drop_from(cut.frame)
        first_stale = cut.frame // chunk_frames
        if state.next_chunk <= first_stale:
            return  # no chunk was planned with what is dropped
        restart = first_stale
        if after_sample is not None:
            # Chunks that are kept, and not there yet, are to be made as well.
            restart = min(restart, max(self._work.next_chunk, state.next_frame // chunk_frames))
        elif self._live is not None:
            restart = self._live.restart_after_interrupt(first_stale)
        self._work.stop()
        self._buffer.drop_from(first_stale)
        state.latents.drop_from(restart)
        self._work.next_chunk = min(self._work.next_chunk, restart)
        self._planner.restart(restart)
        self._work.start(self._tasks)

    def pause(self) -> None:
        """Holds the frames, and in real time their clock."""
        if self.state.is_paused:
            return
        self.state.is_paused = True
        if self._live is not None:
            self._live.pace.pause()
        self._planner.wake()
        self._delivery.tell(pb.SessionEvent(paused=pb.Paused()))

    def resume(self) -> None:
        """Goes on where `pause` held."""
        if not self.state.is_paused:
            return
        self.state.is_paused = False
        if self._live is not None:
            self._live.pace.resume()
        self._planner.wake()
        self._delivery.tell(pb.SessionEvent(resumed=pb.Resumed()))

    async def change_portrait(self, change: pb.ChangePortrait) -> None:
        """Uses another portrait from the next chunk that is planned.

        In real time it is loaded beside; else at its place in the stream of messages.
        """
        if self._live is None:
            await self._use_portrait(change)
        else:
            if self._portrait is not None:
                self._portrait.cancel()  # the last one asked for is the one to use
            self._portrait = self._tasks.create_task(self._use_portrait(change), name="portrait")

    def acknowledged(self, last_frame: int) -> None:
        """Frames arrived, so others may leave."""
        self.state.marks.acknowledge(last_frame + 1)
        self.wake_delivery()

    def wake_delivery(self) -> None:
        """There is something to send, or nothing more to wait for."""
        self._delivery.wake()

    @property
    def input_position(self) -> pb.InputPosition:
        """How far the client's requests were taken in."""
        return pb.InputPosition(
            num_audio_bytes=self.state.num_audio_bytes, num_requests=self.state.num_requests
        )

    @property
    def version(self) -> tuple[int, ...]:
        """Another one whenever `record` would differ in what matters."""
        state = self.state
        mark = state.marks.resumable
        chunk = -1 if mark is None else mark.frame // state.clock.chunk_frames
        settled = state.timeline.end_sample
        return chunk, state.next_chunk, settled, state.num_audio_bytes, state.num_requests

    def record(self) -> bytes | None:
        """The session as it is, for another gateway; None: now it cannot go on elsewhere."""
        if self._is_all_read:
            return None
        return session_record(self._started, self.state, self.counts)

    def _new_planner(self) -> Planner:
        if self._live is not None:
            self._gate: FrameGate = self._live.gate
            return self._live.planner
        self._gate = FastGate(self.state, self._buffer, self._acks)
        lookahead = self._model.lookahead_chunks
        return FastPlanner(self.state, lookahead, self.counts, self._clock.now_s)

    async def _use_portrait(self, change: pb.ChangePortrait) -> None:
        self.state.identity = await self._load_portrait(change)

    async def _read(self, requests: AsyncIterator[pb.StreamAnimateRequest]) -> None:
        async for request in requests:
            await self._watchdog.took_request()
            check_served(request, self._unserved)
            await self._intake.take(request)
        # A stream that broke ends as one that was half-closed does.
        self._is_all_read = True
        await self._intake.finish()
        self.resume()  # nobody else will
        self.wake_delivery()
