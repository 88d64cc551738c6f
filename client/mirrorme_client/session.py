"""One live session as a client sees it: speech and controls go in, frames come out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Self, TypeAlias

from mirrorme.animate.v1 import animation_pb2 as pb

from mirrorme_client.errors import ServerFault, SessionClosed, TimedOut
from mirrorme_client.formats import bytes_per_sample, frame_rate_fps
from mirrorme_client.portrait import Portrait, portrait_source
from mirrorme_client.resuming_call import ResumingCall

AudioSource: TypeAlias = AsyncIterable[bytes] | Iterable[bytes]
EventCallback: TypeAlias = Callable[[pb.SessionEvent], None]

_MAX_AUDIO_MESSAGE_BYTES = 16 * 1024
_MAX_POSES_PER_MESSAGE = 64
# In real time a source is pushed no further ahead of the video: servers refuse too much.
_MAX_AHEAD_S = 20.0


class AnimationSession:
    """Owns one session from `async with` to its end.

    Entering sends the config and waits until the server has accepted it. Then speech is pushed and
    `finish()` says that no more comes, or `feed(source)` does both in the background; meanwhile
    `async for batch in session` gives the frames. Long speech must be read while it is pushed: the
    server stops taking audio when nobody takes its frames. Leaving early cancels the call.

    One task may push while another iterates; only one task iterates.

    When the server dies or goes away, or the connection breaks, a resumable session goes on in
    another stream, at another server where there is one: no frame is missing or comes twice. The
    event `taken_over` tells of it.
    """

    def __init__(
        self,
        call: ResumingCall,
        config: pb.SessionConfig,
        *,
        audio: AudioSource | None,
        on_event: EventCallback | None,
        start_timeout_s: float,
    ) -> None:
        self._call = call
        self._config = config
        self._audio = audio
        self._on_event = on_event
        self._start_timeout_s = start_timeout_s
        self._last_frame_index: int | None = None
        self._started: pb.SessionStarted | None = None
        self._summary: pb.SessionSummary | None = None
        self._ahead_s = 0.0
        """Speech sent that no frame received is of, in real time."""
        self._received = asyncio.Event()

    async def __aenter__(self) -> Self:
        await self._call.open()
        try:
            await self._call.put(pb.StreamAnimateRequest(config=self._config))
            self._started = await self._wait_until_started()
            if self._audio is not None:
                self.feed(self._audio)
        except BaseException:
            await self._call.close()
            raise
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._call.close()

    @property
    def started(self) -> pb.SessionStarted:
        """What the server accepted: the values in force."""
        assert self._started is not None, "the session is not entered"
        return self._started

    @property
    def summary(self) -> pb.SessionSummary:
        """Counts and latencies; there once the iteration has ended.

        Raises:
            SessionClosed: the session has not ended, or failed.
        """
        if self._summary is None:
            raise SessionClosed("the session has no summary before its frames are read to the end")
        return self._summary

    async def push_audio(self, data: bytes) -> None:
        """Sends speech in the declared format, cut anywhere. Waits while the server is behind.

        Raises:
            SessionStalled: it waited long and nobody reads the frames.
            AnimationError: the session failed.
        """
        await self._push_audio(data, may_stall=False)

    def feed(self, audio: AudioSource) -> None:
        """Pushes a source to its end from a task of the session, then finishes.

        What the source raises becomes the session's failure: iterating raises it.
        """
        self._call.start(self._push_source(audio))

    async def end_utterance(self) -> None:
        """Says that the audio so far ends an utterance."""
        await self._call.put(pb.StreamAnimateRequest(end_of_utterance=pb.EndOfUtterance()))

    async def finish(self) -> None:
        """Says that nothing more is sent; the server animates what it has and ends the session."""
        await self._call.half_close()

    async def push_hands(self, poses: Sequence[pb.HandPose]) -> None:
        """Sends hand keypoints for frames that are not generated yet."""
        for start in range(0, len(poses), _MAX_POSES_PER_MESSAGE):
            piece = pb.HandPoses(poses=poses[start : start + _MAX_POSES_PER_MESSAGE])
            await self._call.put(pb.StreamAnimateRequest(hand_poses=piece))

    async def set_controls(
        self,
        controls: Mapping[str, float] | Sequence[pb.FacialControl],
        *,
        first_frame_index: int | None = None,
    ) -> None:
        """Sets facial controls until they are set again: values by name, or whole messages.

        A control of weight 0 is cleared. None: they hold from the next frame to be generated.
        """
        if isinstance(controls, Mapping):
            controls = [pb.FacialControl(name=n, value=value) for n, value in controls.items()]
        message = pb.FacialControls(controls=controls, first_frame_index=first_frame_index)
        await self._call.put(pb.StreamAnimateRequest(facial_controls=message))

    async def interrupt(self, after_sample_index: int | None = None) -> None:
        """Drops the speech that is not delivered yet (barge-in), also what waits to be sent.

        Stop pushing that speech first: what is pushed after this is new speech. With a sample,
        speech up to it is kept.
        """
        request = pb.StreamAnimateRequest(
            interrupt=pb.Interrupt(after_sample_index=after_sample_index)
        )
        if after_sample_index is None:
            self._ahead_s = 0.0
            self._received.set()
            await self._call.overtake(request)
        else:
            await self._call.put(request)

    async def pause(self) -> None:
        """Holds the session."""
        await self._call.put(pb.StreamAnimateRequest(pause=pb.Pause()))

    async def resume(self) -> None:
        """Goes on after `pause`."""
        await self._call.put(pb.StreamAnimateRequest(resume=pb.Resume()))

    async def change_portrait(
        self, portrait: Portrait, crop_mode: pb.CropMode = pb.CROP_MODE_UNSPECIFIED
    ) -> None:
        """Goes on with another portrait from the next chunk boundary."""
        message = pb.ChangePortrait(portrait=portrait_source(portrait, crop_mode))
        await self._call.put(pb.StreamAnimateRequest(change_portrait=message))

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> pb.FrameBatch:
        """The next frames, after the events before them were given to `on_event`.

        Raises:
            AnimationError: the session failed.
        """
        self._acknowledge()
        while (response := await self._call.take()) is not None:
            match response.WhichOneof("message"):
                case "frames":
                    batch = response.frames
                    self._note_received(batch)
                    self._last_frame_index = batch.first_frame_index + len(batch.frames) - 1
                    return batch
                case "event" if self._on_event is not None:
                    self._on_event(response.event)
                case "summary":
                    self._summary = response.summary
        if self._call.failure is not None:
            raise self._call.failure
        if self._summary is None:
            raise ServerFault("the server ended the session without a summary")
        raise StopAsyncIteration

    async def _wait_until_started(self) -> pb.SessionStarted:
        try:
            async with asyncio.timeout(self._start_timeout_s):
                response = await self._call.take()
        except TimeoutError:
            raise TimedOut(
                f"the server did not start the session within {self._start_timeout_s:g} s"
            ) from None
        if response is not None and response.HasField("started"):
            return response.started
        what = response.WhichOneof("message") if response is not None else "its end"
        raise self._call.failure or ServerFault(
            f"the server must begin a session with `started`, but it sent {what}"
        )

    def _note_received(self, batch: pb.FrameBatch) -> None:
        if not batch.is_idle:
            frames_per_s = float(frame_rate_fps(self.started.timing))
            self._ahead_s = max(0.0, self._ahead_s - len(batch.frames) / frames_per_s)
        self._received.set()

    async def _wait_until_not_ahead(self, num_bytes: int) -> None:
        """Keeps a source near the video, in real time."""
        audio_format = self._config.audio_format
        self._ahead_s += num_bytes / bytes_per_sample(audio_format) / audio_format.sample_rate_hz
        while self._config.pacing == pb.PACING_REAL_TIME and self._ahead_s > _MAX_AHEAD_S:
            self._received.clear()
            await self._received.wait()

    def _acknowledge(self) -> None:
        """Acknowledges the batch that the caller has done with."""
        wanted = self._config.max_unacked_frames or self.started.takeover_token
        if self._last_frame_index is not None and wanted:
            ack = pb.FrameAck(last_frame_index=self._last_frame_index)
            self._call.put_ack(pb.StreamAnimateRequest(ack=ack))
        self._last_frame_index = None

    async def _push_audio(self, data: bytes, *, may_stall: bool) -> None:
        for start in range(0, len(data), _MAX_AUDIO_MESSAGE_BYTES):
            piece = data[start : start + _MAX_AUDIO_MESSAGE_BYTES]
            request = pb.StreamAnimateRequest(audio=pb.AudioChunk(data=piece))
            if may_stall:
                await self._wait_until_not_ahead(len(piece))
            await self._call.put(request, may_stall=may_stall)

    async def _push_source(self, audio: AudioSource) -> None:
        try:
            if isinstance(audio, AsyncIterable):
                async for data in audio:
                    await self._push_audio(data, may_stall=True)
            else:
                for data in audio:
                    await self._push_audio(data, may_stall=True)
            await self._call.half_close(may_stall=True)
        except Exception as error:  # noqa: BLE001 (the caller's code: the caller gets it back)
            self._call.fail(error)
