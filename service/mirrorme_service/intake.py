"""A session's input: messages after the config become speech, conditions and commands.

Audio waits in the session's state, so a command behind it is taken at once. How much may wait is
bounded: as fast as possible, the stream is not read meanwhile; in real time, and where the client
has frames to acknowledge first, too much is refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Protocol

import numpy as np
from mirrorme.animate.v1 import animation_pb2 as pb
from numpy.typing import NDArray

from mirrorme_service.ack_window import AckWindow
from mirrorme_service.chunk_plan import Planner
from mirrorme_service.config import ServiceConfig
from mirrorme_service.errors import FailedPrecondition, InvalidRequest, OutOfRange
from mirrorme_service.served_fields import check_known
from mirrorme_service.session_counts import SessionCounts
from mirrorme_service.session_state import SessionState

# A message is decoded in parts, so that a long one waits like many short ones.
_PART_BYTES = 1 << 16


class Commands(Protocol):
    """What acts on the whole session, at once."""

    def interrupt(self, after_sample: int | None) -> None:
        """Drops the speech that is not delivered."""
        ...

    def pause(self) -> None:
        """Holds what is delivered."""
        ...

    def resume(self) -> None:
        """Goes on."""
        ...

    def change_portrait(self, change: pb.ChangePortrait) -> Awaitable[None]:
        """Goes on with another portrait."""
        ...

    def acknowledged(self, last_frame: int) -> None:
        """Frames arrived."""
        ...


class Intake:
    """Takes one session's messages, in order.

    Args:
        is_live: real-time pacing.
        delivered: set whenever frames were delivered.
    """

    def __init__(
        self,
        config: ServiceConfig,
        state: SessionState,
        planner: Planner,
        acks: AckWindow,
        commands: Commands,
        counts: SessionCounts,
        delivered: asyncio.Event,
        *,
        is_live: bool,
    ) -> None:
        self._state = state
        self._planner = planner
        self._acks = acks
        self._commands = commands
        self._counts = counts
        self._delivered = delivered
        self._is_live = is_live
        rate_hz = state.clock.sample_rate_hz
        self._max_waiting = round(config.max_buffered_audio_s * rate_hz)
        self._max_ahead = round(config.max_audio_ahead_s * rate_hz)
        self._max_samples = round(config.max_session_s * rate_hz)

    async def take(self, request: pb.StreamAnimateRequest) -> None:
        """Acts on one message, of a kind that was checked to be served.

        Raises:
            InvalidRequest, OutOfRange, FailedPrecondition
        """
        match kind := request.WhichOneof("message"):
            case "audio":
                await self._take_audio(request.audio.data)
            case "hand_poses":
                self._state.conditions.set_hand_poses(request.hand_poses)
            case "facial_controls":
                self._state.conditions.set_facial_controls(request.facial_controls)
            case "end_of_utterance":
                await self._end_utterance()
            case "interrupt":
                has_sample = request.interrupt.HasField("after_sample_index")
                sample = request.interrupt.after_sample_index if has_sample else None
                self._commands.interrupt(sample)
            case "pause":
                self._commands.pause()
            case "resume":
                self._commands.resume()
            case "change_portrait":
                await self._commands.change_portrait(request.change_portrait)
            case "ack":
                self._acks.acknowledge(request.ack.last_frame_index)
                self._commands.acknowledged(request.ack.last_frame_index)
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
        if kind not in ("audio", "ack"):
            self._state.num_requests += 1

    async def finish(self) -> None:
        """The stream was half-closed: what was sent is animated to its end."""
        await self._end_utterance()
        self._state.is_finished = True
        self._acks.open()
        self._planner.heard()

    async def _take_audio(self, data: bytes) -> None:
        if data:
            self._state.speech.hear()
        for start in range(0, len(data), _PART_BYTES):
            part = data[start : start + _PART_BYTES]
            samples = self._state.audio.push(part)
            self._state.num_audio_bytes += len(part)
            await self._append(samples)

    async def _end_utterance(self) -> None:
        samples = self._state.audio.flush()
        self._state.speech.end(samples)
        await self._heard(len(samples))

    async def _append(self, samples: NDArray[np.float32]) -> None:
        self._state.speech.push(samples)
        await self._heard(len(samples))

    async def _heard(self, num_samples: int) -> None:
        self._counts.num_audio_samples += num_samples
        self._check_length()
        self._planner.heard()
        while self._num_waiting > self._max_waiting and not self._is_live:
            if self._acks.room == 0 or self._state.is_paused:
                break  # what lets it go on is behind this audio
            self._delivered.clear()
            await self._delivered.wait()
        if self._num_waiting > self._max_ahead:
            seconds = self._max_ahead / self._state.clock.sample_rate_hz
            raise OutOfRange(
                "AUDIO_TOO_FAR_AHEAD",
                f"more than {seconds:g} s of audio wait to be spoken: send it later",
                field="audio",
                got=f"{self._num_waiting} samples waiting",
                expected=f"at most {self._max_ahead} samples",
            )

    @property
    def _num_waiting(self) -> int:
        """Samples that are not delivered."""
        state = self._state
        settled = state.timeline.end_sample - state.clock.first_sample(state.next_frame)
        return state.speech.num_samples + (0 if self._is_live else settled)

    def _check_length(self) -> None:
        num_samples = self._state.timeline.end_sample + self._state.speech.num_samples
        if self._is_live or num_samples <= self._max_samples:
            return
        seconds = self._max_samples / self._state.clock.sample_rate_hz
        raise OutOfRange(
            "SESSION_TOO_LONG",
            f"the session's audio is longer than {seconds:g} s: go on in another session",
            field="audio",
            got=f"{num_samples} samples",
            expected=f"at most {self._max_samples} samples",
        )
