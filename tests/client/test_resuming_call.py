"""A session that outlives its streams, against hand-written servers that end them at will."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import grpc
import grpc.aio
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from mirrorme.animate.v1 import animation_pb2 as pb
from mirrorme.animate.v1.animation_pb2_grpc import AnimationServiceServicer
from mirrorme_client import AnimationClient, pcm_s16le
from mirrorme_client.errors import AtCapacity, InvalidRequest, NotFound, ServerUnavailable

from tests.client.fake_service import at_capacity, invalid, serve, status

PCM = pcm_s16le(16_000)
TOKEN = b"token"
TIMING = pb.AudioTiming(sample_rate_hz=16_000, frame_rate_numerator=24, frame_rate_denominator=1)
UNAVAILABLE = status(
    grpc.StatusCode.UNAVAILABLE,
    "going",
    error_details_pb2.ErrorInfo(reason="SERVER_DRAINING", domain="mirrorme.animate"),
)


@dataclass
class Shared:
    """What two servers know together: one session, one frame a byte of audio."""

    audio: bytearray = field(default_factory=bytearray)
    takeovers: list[int] = field(default_factory=list)
    """Frames wanted."""
    num_holders: int = 0
    """The last one may add to the audio."""


class Service(AnimationServiceServicer):
    """Ends its streams as it is told; another one, or itself, goes on from what is shared.

    It takes audio in only up to `taken_bytes`, so that the rest has to be sent again.
    """

    def __init__(self, shared: Shared) -> None:
        self.shared = shared
        self.break_after_frames: list[int] = []
        """The next streams break after so many frames each."""
        self.refuse: list = []
        """The next streams are refused so."""
        self.goes_away = False
        self.num_streams = 0

    async def StreamAnimate(self, request_iterator, context):
        self.num_streams += 1
        requests = aiter(request_iterator)
        config = (await anext(requests)).config
        if self.refuse:
            await context.abort_with_status(rpc_status.to_status(self.refuse.pop(0)))
        frame, audio = 0, self.shared.audio
        started = pb.SessionStarted(session_id="s", takeover_token=TOKEN, timing=TIMING)
        if config.HasField("takeover"):
            assert config.takeover.takeover_token == TOKEN
            frame = config.takeover.next_frame_index
            self.shared.takeovers.append(frame)
            self.shared.num_holders += 1
            # As if the last of it had not been saved.
            del audio[max(0, len(audio) - 2) :]
            started.resume_from.num_audio_bytes = len(audio)
        fence = self.shared.num_holders
        num_left = self.break_after_frames.pop(0) if self.break_after_frames else -1
        yield pb.StreamAnimateResponse(started=started)
        if self.goes_away:
            going = pb.SessionEvent(frame_index=frame, going_away=pb.GoingAway())
            yield pb.StreamAnimateResponse(event=going)
        async for request in requests:
            if fence < self.shared.num_holders:
                return
            audio += request.audio.data
            while frame < len(audio):
                if num_left == 0:
                    await context.abort_with_status(rpc_status.to_status(UNAVAILABLE))
                num_left -= 1
                batch = pb.FrameBatch(first_frame_index=frame)
                batch.frames.add(data=bytes(audio[frame : frame + 1]))
                frame += 1
                yield pb.StreamAnimateResponse(frames=batch)
        yield pb.StreamAnimateResponse(summary=pb.SessionSummary(num_frames=frame))


@contextlib.asynccontextmanager
async def pair() -> AsyncIterator[tuple[Service, Service, list[str]]]:
    shared = Shared()
    first, second = Service(shared), Service(shared)
    async with serve(first) as one, serve(second) as two:
        yield first, second, [one, two]


async def animate(targets: list[str], data: bytes, events: list | None = None) -> bytes:
    """Speech goes in byte by byte; gives what the frames hold."""
    seen = [] if events is None else events
    async with (
        AnimationClient(targets, reconnect_timeout_s=5) as client,
        client.animate("0" * 64, audio_format=PCM, on_event=seen.append) as session,
    ):

        async def push() -> None:
            for value in data:
                await session.push_audio(bytes([value]))
                await asyncio.sleep(0.002)
            await session.finish()

        pushing = asyncio.create_task(push())
        got = bytearray()
        try:
            async for batch in session:
                assert batch.first_frame_index == len(got)
                got += batch.frames[0].data
        finally:
            # What ends the one ends the other.
            (pushed,) = await asyncio.gather(pushing, return_exceptions=True)
        assert pushed is None
        assert session.summary.num_frames == len(data)
        return bytes(got)


DATA = bytes(range(100))


async def test_goes_on_at_another_server() -> None:
    async with pair() as (first, second, targets):
        first.break_after_frames = [30]
        assert await animate(targets, DATA) == DATA
        assert first.shared.takeovers == [30]
        assert second.num_streams == 1


async def test_goes_on_at_another_server_when_it_is_sending_that_fails() -> None:
    """What had come and was not read is not asked for again."""
    async with pair() as (first, second, targets):
        first.break_after_frames = [2]
        async with (
            AnimationClient(targets) as client,
            client.animate("0" * 64, audio_format=PCM) as session,
        ):
            await session.push_audio(DATA[:3])
            while not first.shared.takeovers:
                await session.push_audio(DATA[:1])
                await asyncio.sleep(0.01)
            await session.finish()
            frames = [batch.first_frame_index async for batch in session]
        assert frames == list(range(len(first.shared.audio)))
        assert first.shared.takeovers == [2]
        assert (first.num_streams, second.num_streams) == (1, 1)


async def test_goes_on_again_and_again_at_the_only_server() -> None:
    async with pair() as (first, _, targets):
        first.break_after_frames = [10, 1, 20, 3]
        assert await animate(targets[:1], DATA) == DATA
        assert first.shared.takeovers == [10, 11, 31, 34]


async def test_a_server_that_refuses_is_passed_by() -> None:
    async with pair() as (first, second, targets):
        first.break_after_frames = [30]
        second.refuse = [UNAVAILABLE, at_capacity("full", 0.01)]
        assert await animate(targets, DATA) == DATA
        assert first.shared.takeovers == [30]


async def test_leaves_a_server_that_goes_away() -> None:
    async with pair() as (first, second, targets):
        first.goes_away = True
        events: list[pb.SessionEvent] = []
        assert await animate(targets, DATA, events) == DATA
        assert events[0].HasField("going_away")
        assert second.num_streams == 1


async def test_stays_with_the_only_server_until_it_is_gone() -> None:
    async with pair() as (first, _, targets):
        first.goes_away = True
        assert await animate(targets[:1], DATA) == DATA
        assert first.num_streams == 1


async def test_a_session_is_opened_at_a_server_that_takes_it() -> None:
    async with pair() as (first, second, targets):
        first.refuse, second.refuse = [at_capacity("full", 1)], []
        assert await animate(targets, DATA) == DATA


async def test_a_session_that_all_are_too_full_for_is_refused() -> None:
    async with pair() as (first, second, targets):
        first.refuse, second.refuse = [at_capacity("full", 1)], [at_capacity("full", 1)]
        with pytest.raises(AtCapacity):
            await animate(targets, DATA)


async def test_a_session_waits_for_servers_that_go_away_to_come_back() -> None:
    async with pair() as (first, second, targets):
        first.refuse, second.refuse = [UNAVAILABLE] * 2, [UNAVAILABLE] * 2
        assert await animate(targets, DATA) == DATA


async def test_a_wrong_session_is_tried_once() -> None:
    async with pair() as (first, second, targets):
        first.refuse = second.refuse = [invalid("no", "NO", "config")]
        with pytest.raises(InvalidRequest):
            await animate(targets, DATA)
        assert first.num_streams + second.num_streams == 1


async def test_a_session_that_nobody_has_fails() -> None:
    async with pair() as (first, second, targets):
        first.break_after_frames = [30]
        second.refuse = [status(grpc.StatusCode.NOT_FOUND, "no session of this id")]
        with pytest.raises(NotFound, match="no session"):
            await animate(targets, DATA)


async def test_a_session_that_brings_no_frames_any_more_is_given_up() -> None:
    async with pair() as (first, _, targets):
        first.break_after_frames = [5, *[0] * 50]
        with pytest.raises(ServerUnavailable):
            await animate(targets[:1], DATA)
        assert first.num_streams < 12
