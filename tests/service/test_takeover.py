"""Sessions that go on from what was saved of them, at the same gateway: exactly where they were."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
import msgpack
import numpy as np
import pytest
from mirrorme.animate.v1 import animation_pb2 as pb
from mirrorme_engines.fake_manifest import fake_manifest
from mirrorme_engines.manifest import Manifest
from mirrorme_service.store import Hold

from tests.service.gateway import (
    END_OF_UTTERANCE,
    SECOND,
    Animation,
    Gateway,
    ack,
    animate,
    as_refusal,
    audio,
    config,
    cut,
    refusal,
    running_gateway,
    speech,
    until,
)


def takeover(session_id: str, frame: int, token: bytes) -> pb.StreamAnimateRequest:
    wanted = pb.SessionTakeover(session_id=session_id, next_frame_index=frame, takeover_token=token)
    return pb.StreamAnimateRequest(config=pb.SessionConfig(takeover=wanted))


@dataclass
class Caller:
    """A client of a resumable session by hand: keeps its requests, and loses its stream at will."""

    requests: Sequence[pb.StreamAnimateRequest]
    settings: dict[str, Any] = field(default_factory=dict)
    pause_s: float = 0.01
    frames: list[pb.Frame] = field(default_factory=list)
    labels: list[tuple[int, int, bool]] = field(default_factory=list)
    next_frame: int = 0
    audio: bytes = b""
    events: list[pb.SessionEvent] = field(default_factory=list)
    saved: pb.InputPosition | None = None
    started: pb.SessionStarted | None = None
    summary: pb.SessionSummary | None = None

    async def go_on(self, stub: Any, until_frame: int | None = None) -> None:
        """Opens the session, or takes it up, and reads it to a frame or to its end."""
        self._acks: list[pb.StreamAnimateRequest] = []
        self._resumes: asyncio.Future[pb.InputPosition] = asyncio.Future()
        call = stub.StreamAnimate(self._outgoing())
        async for response in call:
            self._take(response)
            if until_frame is not None and len(self.frames) >= until_frame:
                call.cancel()
                return

    async def _outgoing(self) -> AsyncIterator[pb.StreamAnimateRequest]:
        if self.started is None:
            yield config(resumable=True, **self.settings)
        else:
            token = self.started.takeover_token
            yield takeover(self.started.session_id, self.next_frame, token)
        position = await self._resumes
        num_bytes, num_requests = position.num_audio_bytes, position.num_requests
        for request in self.requests:
            if request.HasField("audio"):
                data = request.audio.data
                skipped, num_bytes = min(num_bytes, len(data)), max(0, num_bytes - len(data))
                if skipped < len(data):
                    yield audio(data[skipped:])
            elif num_requests:
                num_requests -= 1
            else:
                yield request
            await asyncio.sleep(self.pause_s)
            while self._acks:
                yield self._acks.pop()

    def _take(self, response: pb.StreamAnimateResponse) -> None:
        match response.WhichOneof("message"):
            case "started":
                self.started = response.started
                self._resumes.set_result(response.started.resume_from)
            case "frames":
                batch = response.frames
                assert batch.first_frame_index >= self.next_frame  # late ones are left out
                self.next_frame = batch.first_frame_index + len(batch.frames)
                self.frames += batch.frames
                self.labels += [(batch.epoch, batch.utterance, batch.is_idle)] * len(batch.frames)
                self.audio += batch.audio
                self._acks.append(ack(self.next_frame - 1))
            case "event":
                if response.event not in self.events:
                    self.events.append(response.event)
            case "state_saved":
                self.saved = response.state_saved.input
            case "summary":
                self.summary = response.summary


def talk() -> list[pb.StreamAnimateRequest]:
    """Seven seconds in three utterances, with poses and controls in between."""
    data = speech(7 * SECOND)
    pieces = [audio(piece) for piece in cut(data, [3001] * 60)]
    hand = pb.Hand(keypoints=[pb.Keypoint(x=0.5, y=0.5)] * 21)
    poses = pb.HandPoses(poses=[pb.HandPose(sample_index=100_000, left=hand)])
    poses.poses.add(frame_index=70, right=hand)
    controls = pb.FacialControls(
        first_frame_index=60, controls=[pb.FacialControl(name="jawOpen", value=0.5)]
    )
    pieces[5:5] = [pb.StreamAnimateRequest(hand_poses=poses)]
    pieces[9:9] = [pb.StreamAnimateRequest(facial_controls=controls)]
    pieces[20:20] = [END_OF_UTTERANCE]
    pieces[45:45] = [END_OF_UTTERANCE]
    return pieces


async def carried(gateway: Gateway, caller: Caller, *until_frames: int) -> Caller:
    """A session that loses its stream at these frames."""
    for frame in until_frames:
        await caller.go_on(gateway.stub, frame)
        await until(lambda: not gateway.server.admission.num_active)
    await caller.go_on(gateway.stub)
    return caller


def assert_same(caller: Caller, whole: Animation) -> None:
    assert [frame.data for frame in caller.frames] == whole.pixels
    assert caller.frames == whole.frames
    assert caller.audio == b"".join(batch.audio for batch in whole.batches)
    labels = [(b.epoch, b.utterance, b.is_idle) for b in whole.batches for _ in b.frames]
    assert caller.labels == labels
    assert [e for e in caller.events if not e.HasField("taken_over")] == whole.events
    assert whole.summary is not None
    assert caller.summary is not None
    for name in ("num_frames", "num_audio_samples", "num_utterances"):
        assert getattr(caller.summary, name) == getattr(whole.summary, name)


@pytest.mark.parametrize(
    "manifest",
    [
        fake_manifest(),
        fake_manifest(decoder_lookahead_latents=1),
        fake_manifest(num_latents=3, decoder_lookahead_latents=1),
    ],
    ids=["1", "1-lookahead", "3-lookahead"],
)
async def test_goes_on_exactly_where_it_was(manifest: Manifest) -> None:
    async with running_gateway(manifest) as gateway:
        whole = await animate(gateway.stub, [config(include_audio=True), *talk()])
        caller = Caller(talk(), {"include_audio": True, "max_unacked_frames": 48})
        await carried(gateway, caller, 1, 33, 34, 90, 160)
        assert_same(caller, whole)
        assert gateway.metric("mirrorme_takeovers_total", outcome="resumed") == 5


@pytest.mark.parametrize("rate_hz", [8_000, 11_025, 44_100, 47_999])
async def test_resampling_goes_on_exactly(rate_hz: int) -> None:
    audio_format = pb.AudioFormat(
        encoding=pb.AUDIO_ENCODING_PCM_F32LE, sample_rate_hz=rate_hz, num_channels=2
    )
    values = np.frombuffer(speech(3 * rate_hz * 2), "<i2").astype("<f4") / 40_000
    # Cut within samples.
    requests = [audio(piece) for piece in cut(values.tobytes(), [17_003] * 300) if piece]
    settings = {"audio_format": audio_format, "include_audio": True}
    async with running_gateway() as gateway:
        whole = await animate(gateway.stub, [config(**settings), *requests])
        caller = await carried(gateway, Caller(requests, settings), 3, 30)
        assert_same(caller, whole)


async def test_without_acknowledgements_it_goes_on_from_its_start() -> None:
    async with running_gateway() as gateway:
        requests = [audio(speech(2 * SECOND))]
        whole = await animate(gateway.stub, [config(include_audio=True), *requests])
        caller = Caller(requests, {"include_audio": True})
        await carried(gateway, caller, 20)
        assert_same(caller, whole)


async def test_a_stream_that_lost_its_session_ends() -> None:
    async with running_gateway() as gateway:
        call = gateway.stub.StreamAnimate()
        await call.write(config(resumable=True))
        started = (await call.read()).started
        while not (await call.read()).HasField("state_saved"):
            pass
        again = takeover(started.session_id, 0, started.takeover_token)
        other = gateway.stub.StreamAnimate()
        await other.write(again)
        assert (await other.read()).started.session_id == started.session_id
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            while await call.read() is not grpc.aio.EOF:
                pass
        assert as_refusal(ended.value).reason == "SESSION_TAKEN_OVER"
        assert ended.value.code() is grpc.StatusCode.ABORTED
        assert gateway.metric("mirrorme_sessions_total", outcome="moved") == 1
        await other.write(audio(speech(SECOND)))
        await other.done_writing()
        num_frames = 0
        while (response := await other.read()) is not grpc.aio.EOF:
            num_frames += len(response.frames.frames)
        assert num_frames == 24


async def test_an_end_that_was_lost_is_sent_again() -> None:
    async with running_gateway() as gateway:
        caller = Caller([audio(speech(SECOND))])
        await caller.go_on(gateway.stub)
        caller.summary = None
        await caller.go_on(gateway.stub)
        assert len(caller.frames) == 24
        assert caller.summary is not None
        assert caller.summary.num_frames == 24


async def test_what_cannot_be_taken_up_is_refused() -> None:
    async with running_gateway() as gateway:
        caller = Caller(talk())
        await caller.go_on(gateway.stub, 100)
        await until(lambda: not gateway.server.admission.num_active)
        assert caller.started is not None
        session_id, token = caller.started.session_id, caller.started.takeover_token
        both = takeover(session_id, 100, token)
        both.config.seed = 1
        for request, status, reason, field_ in (
            (takeover("0" * 32, 0, token), "NOT_FOUND", "TAKEOVER_UNKNOWN", "config.takeover"),
            (takeover(session_id, 0, b"guess"), "NOT_FOUND", "TAKEOVER_UNKNOWN", "config.takeover"),
            (both, "INVALID_ARGUMENT", "FIELD_CONFLICT", "config.seed"),
            (
                takeover(session_id, 0, token),
                "OUT_OF_RANGE",
                "TAKEOVER_FRAME_GONE",
                "config.takeover.next_frame_index",
            ),
        ):
            error = await refusal(gateway.stub, [request])
            assert (error.status, error.reason, error.field) == (status, reason, field_)
        assert gateway.metric("mirrorme_takeovers_total", outcome="refused") == 4


async def test_the_token_is_nowhere_but_at_the_client() -> None:
    async with running_gateway() as gateway:
        caller = Caller(talk())
        await caller.go_on(gateway.stub, 60)
        assert caller.started is not None
        token = caller.started.takeover_token
        assert len(token) == 32
        hold, state = await gateway.server.store.claim_session(
            caller.started.session_id, hashlib.sha256(token).digest(), 60
        )
        assert token not in state
        assert token not in hold.token_sha256


@pytest.mark.parametrize("state", [b"", b"\xc1", msgpack.packb([2]), msgpack.packb([1, b"", 0])])
async def test_a_state_of_another_format_is_refused(state: bytes) -> None:
    async with running_gateway() as gateway:
        hold = Hold("s", hashlib.sha256(b"token").digest())
        await gateway.server.store.save_session(hold, state, 60)
        error = await refusal(gateway.stub, [takeover("s", 0, b"token")])
        assert (error.status, error.reason) == ("FAILED_PRECONDITION", "TAKEOVER_UNREADABLE")


async def test_real_time_goes_on_without_a_gap_in_its_frames() -> None:
    async with running_gateway() as gateway:
        requests = [audio(piece) for piece in cut(speech(4 * SECOND), [640] * 99)]
        settings = {"pacing": pb.PACING_REAL_TIME, "max_unacked_frames": 12}
        caller = await carried(gateway, Caller(requests, settings, pause_s=0.02), 30, 31, 60)
        assert caller.summary is not None
        assert caller.summary.num_utterances == 1
        assert caller.summary.num_audio_samples == 4 * SECOND
        assert caller.next_frame >= 96
