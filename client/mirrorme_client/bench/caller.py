"""One benched session: plays its talk on the clock and notes when frames come."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from mirrorme.animate.v1 import animation_pb2 as pb

from mirrorme_client.bench.session_record import Arrival, SessionRecord
from mirrorme_client.bench.talk import Spurt
from mirrorme_client.bench.voice import Voice
from mirrorme_client.client import AnimationClient
from mirrorme_client.errors import AnimationError
from mirrorme_client.portrait import Portrait
from mirrorme_client.session import AnimationSession

_PIECE_S = 0.02


@dataclass(frozen=True)
class CallPlan:
    """What a session does."""

    portrait: Portrait
    voice: Voice
    talk: tuple[Spurt, ...]
    seconds: float
    output: pb.OutputFormat
    pacing: pb.Pacing
    seed: int = 0
    crop_mode: pb.CropMode = pb.CROP_MODE_UNSPECIFIED
    max_ahead_s: float = 0.0
    """How far speech may be sent ahead of the clock, as a speech synthesiser does. 0: as spoken."""

    @property
    def is_paced(self) -> bool:
        """True: the server keeps the clock, with idle motion in the pauses. False: the caller
        does, with silence in the pauses and no interrupts."""
        return self.pacing == pb.PACING_REAL_TIME


class Caller:
    """Runs one session; `run` once."""

    def __init__(
        self,
        client: AnimationClient,
        plan: CallPlan,
        *,
        on_batch: Callable[[pb.FrameBatch], None] = lambda batch: None,
    ) -> None:
        """`on_batch` sees each batch of frames after its arrival was noted."""
        self._client = client
        self._plan = plan
        self._on_batch = on_batch
        self.record = SessionRecord(is_paced=plan.is_paced)

    async def run(self) -> SessionRecord:
        """To the end of the session. Its failure is noted, not raised."""
        plan = self._plan
        session = self._client.animate(
            plan.portrait,
            audio_format=plan.voice.format,
            output=plan.output,
            pacing=plan.pacing,
            crop_mode=plan.crop_mode,
            seed=plan.seed,
            include_audio=True,
            client_reference="mirrorme bench",
        )
        try:
            async with session, asyncio.TaskGroup() as tasks:
                self.record.begin(session.started)
                speaking = tasks.create_task(self._speak(session))
                async for batch in session:
                    self.record.arrivals.append(Arrival.of(batch, time.perf_counter()))
                    self._on_batch(batch)
                self.record.summary = session.summary
                speaking.cancel()
        except* AnimationError as errors:
            error = errors.exceptions[0]
            reason = getattr(error, "reason", "")
            self.record.error = f"{type(error).__name__} {reason}: {error}"
        return self.record

    async def _speak(self, session: AnimationSession) -> None:
        self._start_s = time.perf_counter()
        if not self._plan.is_paced:
            # Silence is sent, too: the session is one utterance.
            self.record.onsets_s.append(self._start_s)
        at_s = 0.0
        for spurt in self._plan.talk:
            await self._pause(session, at_s, spurt.start_s)
            if self._plan.is_paced:
                self.record.onsets_s.append(time.perf_counter())
            await self._say(session, spurt)
            at_s = spurt.stop_s
        await self._pause(session, at_s, self._plan.seconds)
        await session.finish()

    async def _pause(self, session: AnimationSession, start_s: float, stop_s: float) -> None:
        if self._plan.is_paced:
            await self._until(stop_s)
        else:
            await self._push(session, start_s, stop_s, is_silent=True)

    async def _say(self, session: AnimationSession, spurt: Spurt) -> None:
        await self._push(session, spurt.start_s, spurt.stop_s, is_silent=False)
        if not self._plan.is_paced:
            return
        if spurt.is_cut:
            await self._until(spurt.stop_s)
            self.record.interrupts_s.append(time.perf_counter())
            await session.interrupt()
        else:
            await session.end_utterance()

    async def _push(
        self, session: AnimationSession, start_s: float, stop_s: float, *, is_silent: bool
    ) -> None:
        """Sends speech piece by piece, each when it would have been spoken."""
        made = self._plan.voice.silence if is_silent else self._plan.voice.piece
        at_s = start_s
        while at_s < stop_s:
            end_s = min(stop_s, at_s + _PIECE_S)
            due_s = max(start_s, end_s - self._plan.max_ahead_s)
            await self._until(due_s)
            self.record.push_lags_s.append(time.perf_counter() - self._start_s - due_s)
            await session.push_audio(made(at_s, end_s))
            at_s = end_s

    async def _until(self, at_s: float) -> None:
        left_s = self._start_s + at_s - time.perf_counter()
        if left_s > 0:
            await asyncio.sleep(left_s)
