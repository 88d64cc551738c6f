"""Frames in flight are bounded: as fast as possible waits, real time leaves frames out."""

from __future__ import annotations

import asyncio
import gc

import av
import pytest
from mirrorme.animate.v1 import animation_pb2 as pb
from mirrorme_engines.fake_manifest import fake_manifest
from mirrorme_service.pcm_ring import PcmRing
from mirrorme_service.session import Session

from tests.service.gateway import (
    SECOND,
    Animation,
    ack,
    animate,
    audio,
    config,
    new_channel,
    refusal,
    running_gateway,
    speech,
    until,
)
from tests.service.live_session import live_session
from tests.service.still_clock import StillClock

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.mark.parametrize("max_unacked", [1, 5, 8, 24])
async def test_waiting_for_acknowledgements_changes_no_frame(max_unacked: int) -> None:
    data = speech(3 * SECOND)
    async with running_gateway() as gateway:
        plain = await animate(gateway.stub, [config(), audio(data)])
        call = gateway.stub.StreamAnimate()
        await call.write(config(max_unacked_frames=max_unacked))
        for start in range(0, len(data), 3200):
            await call.write(audio(data[start : start + 3200]))
        seen = Animation()
        while len(seen.frames) < 64:
            response = await call.read()
            seen.take(response)
            num_seen = len(seen.frames)
            if response.HasField("frames") and (num_seen % max_unacked == 0 or num_seen == 64):
                await call.write(ack(num_seen - 1))
        await call.done_writing()  # and nobody acknowledges the rest
        while not seen.summary:
            seen.take(await call.read())
        assert seen.pixels == plain.pixels, "byte for byte"


async def test_no_more_frames_than_allowed_are_in_flight() -> None:
    async with running_gateway() as gateway:
        call = gateway.stub.StreamAnimate()
        await call.write(config(max_unacked_frames=10))
        await call.write(audio(speech(2 * SECOND)))
        sent = {"encoding": "rgb24"}
        name = "mirrorme_frames_sent_total"
        await until(lambda: gateway.metric(name, **sent) == 10)
        await asyncio.sleep(0.1)
        assert gateway.metric(name, **sent) == 10
        await call.write(ack(2))
        await until(lambda: gateway.metric(name, **sent) == 13)
        call.cancel()


async def test_acknowledgements_are_read_behind_any_audio() -> None:
    """More audio than may wait stands before the acknowledgement that frees the frames."""
    async with running_gateway(max_buffered_audio_s=1.0) as gateway:
        call = gateway.stub.StreamAnimate()
        await call.write(config(max_unacked_frames=8))
        for _ in range(30):
            await call.write(audio(speech(SECOND // 2)))
        seen = Animation()
        while (response := await asyncio.wait_for(call.read(), 10)).WhichOneof(
            "message"
        ) != "summary":
            seen.take(response)
            if not response.HasField("frames") or len(seen.frames) % 8:
                continue
            if len(seen.frames) < 15 * 24:
                await call.write(ack(len(seen.frames) - 1))
            if len(seen.frames) == 15 * 24 - 8:
                await call.done_writing()
        assert len(seen.frames) == 15 * 24


async def test_real_time_leaves_frames_out_until_they_are_acknowledged() -> None:
    clock = StillClock()
    output = pb.OutputFormat(encoding=pb.FRAME_ENCODING_H264)
    async with (
        running_gateway(clock=clock) as gateway,
        live_session(gateway, clock, output=output, max_unacked_frames=6) as session,
    ):
        await session.play(0, 6)
        for frame in range(6, 30):
            session.move_to_frame(frame)
            await asyncio.sleep(0.01)
        assert session.indices == list(range(6))
        session.move_to_frame(40)
        await asyncio.sleep(0.05)
        await session.call.write(ack(5))
        await until(lambda: session.num_frames > 40)
        assert session.indices[6] == 40, "the present frame, not those that were missed"
        await session.play(41, 46)
        codec = av.CodecContext.create("h264", "r")
        decoded = [codec.decode(av.Packet(frame.data)) for frame in session.seen.frames]
        assert sum(map(len, decoded)) + len(codec.decode(None)) == 12
        await session.play_out()
        assert session.seen.summary.num_skipped_frames == 34
        name = "mirrorme_frames_skipped_total"
        by_client, late = (gateway.metric(name, reason=reason) for reason in ("client", "late"))
        assert by_client > 0
        assert by_client + late == 34


async def test_real_time_client_that_reads_nothing_is_ended() -> None:
    output = pb.OutputFormat(encoding=pb.FRAME_ENCODING_RGB24)
    async with (
        # Its frames soon fill what gRPC keeps.
        running_gateway(fake_manifest(size_px=256), max_stall_s=0.5) as gateway,
        new_channel(gateway.server) as channel,
    ):
        call = type(gateway.stub)(channel).StreamAnimate()
        settings = {"pacing": pb.PACING_REAL_TIME, "output": output}
        await call.write(config(**settings))
        labels = {"rpc": "StreamAnimate", "status": "DEADLINE_EXCEEDED"}
        reason = {"reason": "CLIENT_NOT_READING"}
        name = "mirrorme_errors_total"
        await until(lambda: gateway.metric(name, **labels, **reason) == 1, 60)
        assert not gateway.server.admission.num_active
        # The client is still connected, and gRPC waits for it; the session does not.
        gc.collect()
        assert not [held for held in gc.get_objects() if type(held) in (Session, PcmRing)]
        call.cancel()


async def test_acknowledgement_of_what_was_not_sent() -> None:
    async with running_gateway() as gateway:
        error = await refusal(gateway.stub, [config(max_unacked_frames=4), ack(0)])
        assert (error.status, error.reason) == ("OUT_OF_RANGE", "ACK_OF_UNSENT_FRAME")
