"""A session's input: messages after the config become planned chunks, in the order of the stream.

A chunk is planned as soon as its audio window is complete, and its conditions are settled then. So
what a message can still change depends on the messages before it and not on how fast the engines
are, and the same stream gives the same frames on every run.
"""

from __future__ import annotations

import asyncio
import time

import numpy as np
from mirrorme.animate.v1 import animation_pb2 as pb
from numpy.typing import NDArray

from mirrorme_service.audio_input import AudioInput
from mirrorme_service.condition_schedule import ConditionSchedule
from mirrorme_service.config import ServiceConfig
from mirrorme_service.errors import FailedPrecondition, InvalidRequest, OutOfRange
from mirrorme_service.generator import ChunkPlan
from mirrorme_service.model import Model
from mirrorme_service.served_fields import check_known
from mirrorme_service.session_counts import SessionCounts
from mirrorme_service.session_state import SessionState

# A message is decoded in parts, so that a long one waits like many short ones.
_PART_BYTES = 1 << 16


class Intake:
    """Takes one session's messages; waits while `plans` is full, which bounds what is buffered."""

    def __init__(
        self,
        model: Model,
        config: ServiceConfig,
        state: SessionState,
        audio: AudioInput,
        plans: asyncio.Queue[ChunkPlan | None],
        counts: SessionCounts,
    ) -> None:
        self._clock = model.clock
        self._lookahead_chunks = model.lookahead_chunks
        self._state = state
        self._audio = audio
        self._plans = plans
        self._counts = counts
        self._conditions = ConditionSchedule(model.manifest, config.max_poses_ahead_s)
        self._max_samples = round(config.max_session_s * model.clock.sample_rate_hz)
        self._next_chunk = 0

    async def take(self, request: pb.StreamAnimateRequest) -> None:
        """Acts on one message, of a kind that was checked to be served.

        Raises:
            InvalidRequest, OutOfRange, FailedPrecondition
        """
        match kind := request.WhichOneof("message"):
            case "audio":
                await self._take_audio(request.audio.data)
            case "hand_poses":
                self._conditions.set_hand_poses(request.hand_poses)
            case "facial_controls":
                self._conditions.set_facial_controls(request.facial_controls)
            case "end_of_utterance":
                await self._end_utterance()
            case "config":
                raise FailedPrecondition(
                    "CONFIG_REPEATED",
                    "config was sent twice: it is the first message, once; open another stream",
                    field="config",
                )
            case None:
                check_known(request, "")
                raise InvalidRequest("MESSAGE_EMPTY", "the request holds no message", got="empty")
            case _:
                raise AssertionError(f"{kind} is refused before")

    async def finish(self) -> None:
        """The stream was half-closed: plans the rest, padded with silence, and then the end."""
        await self._end_utterance()
        num_samples = self._state.pcm.end_sample
        num_frames = self._clock.first_frame_from(num_samples)
        num_chunks = self._clock.num_chunks(num_frames)
        while self._next_chunk < num_chunks:
            rest = num_frames - self._next_chunk * self._clock.chunk_frames
            await self._plan(min(rest, self._clock.chunk_frames))
        for _ in range(self._lookahead_chunks if num_chunks else 0):
            await self._plan(0)
        await self._plans.put(None)

    async def _take_audio(self, data: bytes) -> None:
        if data:
            self._state.utterances.hear()
        for start in range(0, len(data), _PART_BYTES):
            await self._append(self._audio.push(data[start : start + _PART_BYTES]))

    async def _end_utterance(self) -> None:
        await self._append(self._audio.flush())
        self._state.utterances.end(self._state.pcm.end_sample)

    async def _append(self, samples: NDArray[np.float32]) -> None:
        """Adds audio and plans the chunks that it completes."""
        pcm = self._state.pcm
        num_samples = pcm.end_sample + len(samples)
        if num_samples > self._max_samples:
            seconds = self._max_samples / self._clock.sample_rate_hz
            raise OutOfRange(
                "SESSION_TOO_LONG",
                f"the session's audio is longer than {seconds:g} s: go on in another session",
                field="audio",
                got=f"{num_samples} samples",
                expected=f"at most {self._max_samples} samples",
            )
        pcm.append(samples)
        self._counts.num_audio_samples = num_samples
        while num_samples >= self._clock.samples_needed(self._next_chunk):
            await self._plan(self._clock.chunk_frames)

    async def _plan(self, num_frames: int) -> None:
        if self._counts.first_chunk_heard_s is None:
            self._counts.first_chunk_heard_s = time.perf_counter()
        conditions = self._conditions.settle_chunk()
        stop_frame = self._next_chunk * self._clock.chunk_frames + num_frames
        stop_sample = min(self._clock.first_sample(stop_frame), self._state.pcm.end_sample)
        plan = ChunkPlan(self._next_chunk, num_frames, stop_sample, conditions)
        self._next_chunk += 1
        await self._plans.put(plan)
