"""Sessions against a service that follows the contract, over a real gRPC connection."""

from __future__ import annotations

import asyncio
import contextlib

import grpc
import pytest
from mirrorme.animate.v1 import animation_pb2 as pb
from mirrorme_client import AnimationClient, h264, jpeg, pcm_s16le, rgb24
from mirrorme_client.errors import (
    AtCapacity,
    InvalidRequest,
    ServerFault,
    ServerUnavailable,
    SessionClosed,
    SessionStalled,
    TimedOut,
)

from tests.client.fake_service import (
    FRAME_PX,
    PORTRAIT_ID,
    Behaviour,
    FakeAnimationService,
    at_capacity,
    invalid,
    serve,
    status,
)
from tests.client.speech_files import beeps

PORTRAIT = b"\x89PNG portrait"
SPEECH = beeps(2.0, (0.5,)).tobytes()
PCM = pcm_s16le(16000)


@contextlib.asynccontextmanager
async def connected(service: FakeAnimationService, **settings):
    async with serve(service) as target, AnimationClient(target, **settings) as animation:
        yield animation


async def read_all(session) -> list[pb.FrameBatch]:
    return [batch async for batch in session]


async def test_pushed_by_the_caller_while_read() -> None:
    service = FakeAnimationService()
    async with (
        connected(service) as animation,
        animation.animate(PORTRAIT, audio_format=PCM, seed=7) as session,
    ):
        assert session.started.session_id == "fake-session"

        async def push() -> None:
            await session.push_audio(SPEECH)
            await session.end_utterance()
            await session.finish()

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(push())
            batches = await read_all(session)
    assert [batch.first_frame_index for batch in batches] == list(range(0, 48, 8))
    assert session.summary.num_frames == 48
    (received,) = service.sessions
    assert received.audio == SPEECH
    assert received.config.portrait.image == PORTRAIT
    assert received.config.seed == 7
    assert received.requests[-1].HasField("end_of_utterance")
    assert received.largest_message_bytes < 20_000


@pytest.mark.parametrize("kind", ["list", "generator", "async generator"])
async def test_audio_source_is_pushed_to_its_end(kind: str) -> None:
    pieces = [SPEECH[i : i + 999] for i in range(0, len(SPEECH), 999)]

    async def generate():
        for piece in pieces:
            yield piece

    source = {"list": pieces, "generator": iter(pieces), "async generator": generate()}[kind]
    service = FakeAnimationService()
    async with (
        connected(service) as animation,
        animation.animate(PORTRAIT, audio_format=PCM, audio=source) as session,
    ):
        batches = await read_all(session)
    assert sum(len(batch.frames) for batch in batches) == 48
    assert service.sessions[0].audio == SPEECH


async def test_output_formats() -> None:
    cases = [
        (jpeg(80), b"\xff\xd8"),
        (h264(), b"\x00\x00\x00\x01"),
        (rgb24(), b"\x28" * 3 * FRAME_PX * FRAME_PX),
    ]
    async with connected(FakeAnimationService()) as animation:
        for output, start in cases:
            session = animation.animate(PORTRAIT, audio_format=PCM, audio=[SPEECH], output=output)
            async with session:
                batches = await read_all(session)
            assert batches[0].frames[0].data.startswith(start)


async def test_events_come_at_their_place() -> None:
    seen: list[str] = []
    async with connected(FakeAnimationService()) as animation:
        session = animation.animate(
            PORTRAIT,
            audio_format=PCM,
            audio=[SPEECH],
            on_event=lambda event: seen.append(event.WhichOneof("event")),
        )
        async with session:
            async for batch in session:
                seen.append(f"frame {batch.first_frame_index}")
    assert seen[:2] == ["utterance_started", "frame 0"]


async def test_verbs_become_requests() -> None:
    service = FakeAnimationService()
    hand = pb.Hand(keypoints=[pb.Keypoint(x=0.5, y=0.5)] * 21)
    poses = [pb.HandPose(frame_index=frame, left=hand) for frame in range(100)]
    async with (
        connected(service) as animation,
        animation.animate(PORTRAIT_ID, audio_format=PCM) as session,
    ):
        await session.set_controls({"jawOpen": 0.5}, first_frame_index=8)
        await session.set_controls([pb.FacialControl(name="head_yaw", value=3, weight=0)])
        await session.push_hands(poses)
        await session.interrupt(after_sample_index=100)
        await session.interrupt()
        await session.pause()
        await session.resume()
        await session.change_portrait(PORTRAIT, pb.CROP_MODE_FACE)
        await session.finish()
        assert await read_all(session) == []
    (received,) = service.sessions
    assert received.config.portrait.portrait_id == PORTRAIT_ID
    kinds = [request.WhichOneof("message") for request in received.requests]
    assert kinds == [
        *("facial_controls", "facial_controls", "hand_poses", "hand_poses"),
        *("interrupt", "interrupt", "pause", "resume", "change_portrait"),
    ]
    first, second = (request.facial_controls for request in received.requests[:2])
    assert (first.first_frame_index, first.controls[0].name) == (8, "jawOpen")
    assert not second.HasField("first_frame_index")
    assert second.controls[0].weight == 0
    assert sum(len(request.hand_poses.poses) for request in received.requests) == 100
    assert received.requests[4].interrupt.after_sample_index == 100
    assert not received.requests[5].interrupt.HasField("after_sample_index")
    assert received.requests[8].change_portrait.portrait.crop_mode == pb.CROP_MODE_FACE


async def test_frames_are_acknowledged_when_the_next_are_wanted() -> None:
    service = FakeAnimationService()
    async with connected(service) as animation:
        session = animation.animate(PORTRAIT, audio_format=PCM, max_unacked_frames=16)
        async with session:
            await session.push_audio(SPEECH)
            for _ in range(6):
                await anext(session)
            await asyncio.sleep(0.1)
            await session.finish()
            await read_all(session)
    acks = [request.ack.last_frame_index for request in service.sessions[0].requests]
    assert acks == sorted(acks)
    assert acks[-1] == 39


async def test_a_timeout_of_the_caller_does_not_break_the_session() -> None:
    async with (
        connected(FakeAnimationService()) as animation,
        animation.animate(PORTRAIT, audio_format=PCM) as session,
    ):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(session), 0.05)
        session.feed([SPEECH])
        batches = await read_all(session)
    assert sum(len(batch.frames) for batch in batches) == 48


async def test_leaving_early_cancels_the_call() -> None:
    service = FakeAnimationService()
    async with connected(service) as animation:
        async with animation.animate(PORTRAIT, audio_format=PCM) as session:
            await session.push_audio(SPEECH)
            await anext(session)
        for _ in range(100):
            if service.sessions[0].cancelled:
                break
            await asyncio.sleep(0.02)
        with pytest.raises(SessionClosed):
            await session.push_audio(SPEECH)
    assert service.sessions[0].cancelled


async def test_the_callers_exception_passes_unchanged() -> None:
    async with connected(FakeAnimationService()) as animation:
        with pytest.raises(KeyError, match="mine"):
            async with animation.animate(PORTRAIT, audio_format=PCM) as session:
                await session.push_audio(SPEECH)
                raise KeyError("mine")


async def test_cancelling_the_caller_leaves_no_task() -> None:
    async with connected(FakeAnimationService()) as animation:

        async def use() -> None:
            async with animation.animate(PORTRAIT, audio_format=PCM) as session:
                await session.push_audio(SPEECH)
                await asyncio.sleep(60)

        before = asyncio.all_tasks()
        task = asyncio.create_task(use())
        await asyncio.sleep(0.2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        left = {t for t in asyncio.all_tasks() - before if "live_call" in repr(t.get_coro())}
        assert not left


async def test_long_speech_that_nobody_reads_is_reported() -> None:
    speech = bytes(2 * 16000 * 600)
    async with connected(FakeAnimationService(), stall_timeout_s=0.3) as animation:
        session = animation.animate(PORTRAIT, audio_format=PCM, output=rgb24())
        async with session:
            with pytest.raises(SessionStalled, match="nobody read"):
                await session.push_audio(speech)


async def test_a_source_waits_for_a_slow_reader() -> None:
    async with connected(FakeAnimationService(), stall_timeout_s=0.05) as animation:
        source = [bytes(2 * 16000 * 20)]
        session = animation.animate(PORTRAIT, audio_format=PCM, audio=source, output=rgb24())
        async with session:
            await asyncio.sleep(0.5)
            batches = await read_all(session)
    assert sum(len(batch.frames) for batch in batches) == 480


async def test_refused_config() -> None:
    refusal = invalid("config.portrait.image: no face was found", "NO_FACE", "config.portrait")
    service = FakeAnimationService(Behaviour(refuse=refusal))
    async with connected(service) as animation:
        with pytest.raises(InvalidRequest, match="no face") as raised:
            async with animation.animate(PORTRAIT, audio_format=PCM):
                pytest.fail("the session must not start")
    error = raised.value
    assert error.code == grpc.StatusCode.INVALID_ARGUMENT
    assert error.reason == "NO_FACE"
    assert [violation.field for violation in error.violations] == ["config.portrait"]
    assert not error.retryable


async def test_full_server() -> None:
    service = FakeAnimationService(Behaviour(refuse=at_capacity("8 of 8 sessions", 2.5)))
    async with connected(service) as animation:
        with pytest.raises(AtCapacity, match=r"8 of 8 sessions\nTry again in 2\.5 s") as raised:
            async with animation.animate(PORTRAIT, audio_format=PCM):
                pass
    assert raised.value.retryable
    assert raised.value.retry_delay_s == 2.5
    assert len(service.sessions) == 1, "a session is not retried behind the caller's back"


async def test_failure_in_mid_stream_comes_after_the_frames() -> None:
    failure = status(grpc.StatusCode.UNAVAILABLE, "the engines are gone")
    service = FakeAnimationService(Behaviour(fail=failure, fail_after_frames=16))
    async with (
        connected(service) as animation,
        animation.animate(PORTRAIT, audio_format=PCM, audio=[SPEECH]) as session,
    ):
        batches = []
        with pytest.raises(ServerUnavailable, match="engines are gone"):
            async for batch in session:
                batches.append(batch)
        with pytest.raises(ServerUnavailable):
            await session.push_audio(SPEECH)
        with pytest.raises(ServerUnavailable):
            await anext(session)
        with pytest.raises(SessionClosed):
            _ = session.summary
    assert sum(len(batch.frames) for batch in batches) == 16


async def test_a_server_that_closes_its_port_cancels_calls() -> None:
    cancelled = status(grpc.StatusCode.CANCELLED, "enough")
    service = FakeAnimationService(Behaviour(fail=cancelled))
    async with (
        connected(service) as animation,
        animation.animate(PORTRAIT, audio_format=PCM, audio=[SPEECH]) as session,
    ):
        with pytest.raises(ServerUnavailable, match=r"was lost \(enough"):
            await read_all(session)


@pytest.mark.parametrize(
    ("behaviour", "message"),
    [
        (Behaviour(end_without_summary=True), "without a summary"),
        (Behaviour(start_with_frames=True), "begin a session with `started`"),
    ],
)
async def test_a_server_that_breaks_the_contract(behaviour: Behaviour, message: str) -> None:
    async with connected(FakeAnimationService(behaviour)) as animation:
        with pytest.raises(ServerFault, match=message):
            async with animation.animate(PORTRAIT, audio_format=PCM, audio=[SPEECH]) as session:
                await read_all(session)


async def test_a_server_that_does_not_start_the_session() -> None:
    class Silent(FakeAnimationService):
        async def StreamAnimate(self, request_iterator, context):
            await asyncio.sleep(60)
            yield pb.StreamAnimateResponse()

    async with connected(Silent(), call_timeout_s=0.2) as animation:
        with pytest.raises(TimedOut, match=r"within 0\.2 s"):
            async with animation.animate(PORTRAIT, audio_format=PCM):
                pass


async def test_failing_source_is_what_the_reader_gets() -> None:
    def broken():
        yield SPEECH
        raise OSError("microphone unplugged")

    service = FakeAnimationService()
    async with connected(service) as animation:
        with pytest.raises(OSError, match="unplugged"):
            async with animation.animate(PORTRAIT, audio_format=PCM, audio=broken()) as session:
                await read_all(session)


async def test_nothing_can_be_sent_after_finish() -> None:
    async with (
        connected(FakeAnimationService()) as animation,
        animation.animate(PORTRAIT, audio_format=PCM) as session,
    ):
        await session.finish()
        with pytest.raises(SessionClosed, match="finished"):
            await session.push_audio(SPEECH)
        assert await read_all(session) == []


async def test_sessions_side_by_side() -> None:
    service = FakeAnimationService()
    async with connected(service) as animation:

        async def animate(loud_s: float) -> list[bytes]:
            speech = beeps(2.0, (loud_s,)).tobytes()
            session = animation.animate(PORTRAIT, audio_format=PCM, audio=[speech])
            async with session:
                return [frame.data for batch in await read_all(session) for frame in batch.frames]

        early, late = await asyncio.gather(animate(0.25), animate(1.25))
    assert early != late
    assert early[6:9] == late[30:33]
    assert early[6] != early[0]
