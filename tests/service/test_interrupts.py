"""Barge-in: what is not delivered is dropped everywhere, and nothing stale comes after."""

from __future__ import annotations

import asyncio
import itertools

import av
import numpy as np
import pytest
from mirrorme.animate.v1 import animation_pb2 as pb

from tests.service.gateway import (
    END_OF_UTTERANCE,
    SECOND,
    Animation,
    audio,
    config,
    running_gateway,
    speech,
    until,
)
from tests.service.live_session import FRAME_S, LiveSession, live_session
from tests.service.still_clock import StillClock

pytestmark = pytest.mark.asyncio(loop_scope="session")

LOUD = audio(np.full(4 * SECOND, 16384, "<i2").tobytes())
INTERRUPT = pb.StreamAnimateRequest(interrupt=pb.Interrupt())


async def interrupted(session: LiveSession, request: pb.StreamAnimateRequest = INTERRUPT) -> None:
    """Sends an interrupt and waits for its answer."""
    num_before = len(session.events("interrupted"))
    await session.call.write(request)
    await until(lambda: len(session.events("interrupted")) > num_before or session.error)


async def settle(session: LiveSession, first: int, stop: int) -> None:
    """Plays on after an interrupt, and gives the engines time for the chunk that settles."""
    for frame in range(first, stop):
        await session.play(frame, frame + 1)
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("moment", [20, 23, 24, 26, 29, 31])
async def test_nothing_stale_after_an_interrupt(moment: int) -> None:
    clock = StillClock()
    async with running_gateway(clock=clock) as gateway, live_session(gateway, clock) as session:
        await session.play(0, 4)
        await session.call.write(LOUD)
        await session.play(4, moment)
        await interrupted(session)
        (event,) = session.events("interrupted")
        assert event.epoch == 1
        assert event.frame_index == moment
        assert event.interrupted.last_kept_frame_index == moment - 1
        assert event.interrupted.last_kept_sample_index == moment * 2000 // 3 - 1
        await until(lambda: session.events("utterance_finished"))
        (finished,) = session.events("utterance_finished")
        assert finished.utterance_finished.interrupted
        assert finished.frame_index == moment
        kept = sum(not idle for idle in session.is_idle().values())
        first_sample = session.events("utterance_started")[0].sample_index
        dropped = event.interrupted.dropped_samples
        assert abs(4 * SECOND - dropped - kept * 2000 / 3) < 2000, (kept, first_sample)
        await settle(session, moment, moment + 40)
        after = [batch for batch in session.seen.batches if batch.first_frame_index >= moment]
        assert {batch.epoch for batch in after} == {1}
        assert all(batch.is_idle for batch in after)
        assert all(not any(batch.audio) for batch in after), "no stale sound"
        # The last picture is shown on, then the face settles.
        pixels = session.seen.pixels
        held = list(itertools.takewhile(lambda data: data == pixels[moment - 1], pixels[moment:]))
        settled = moment + len(held)
        assert settled < moment + 40
        # The loudness of a latent frame: what was kept of it, and from the next one on none.
        border = max(settled, -(-moment // 8) * 8)
        assert all(code.audio_energy == 0 for i, code in session.codes().items() if i >= border)
        assert session.indices == list(range(moment + 40)), "the clock goes on"
        await session.play_out()
        assert session.seen.summary.num_interrupts == 1
        assert session.seen.summary.num_skipped_frames == 0


@pytest.mark.parametrize(("moment", "settled"), [(26, range(26, 32)), (29, range(32, 33))])
async def test_the_face_settles_with_a_chunk_that_even_slow_engines_make_in_time(
    moment: int, settled: range
) -> None:
    """The slowest of the few chunks so far took 4 frames (the first guess), the others nothing."""
    clock = StillClock()
    async with running_gateway(clock=clock) as gateway, live_session(gateway, clock) as session:
        await session.call.write(LOUD)
        await session.play(0, moment)
        await interrupted(session)
        await settle(session, moment, moment + 16)
        pixels = session.seen.pixels
        held = list(itertools.takewhile(lambda data: data == pixels[moment - 1], pixels[moment:]))
        assert moment + len(held) in settled


async def test_speech_after_an_interrupt_is_new_speech() -> None:
    clock = StillClock()
    async with running_gateway(clock=clock) as gateway, live_session(gateway, clock) as session:
        await session.call.write(LOUD)
        await session.play(0, 21)
        await interrupted(session)
        quiet = np.full(SECOND, 1000, "<i2").tobytes()
        for request in (audio(quiet), END_OF_UTTERANCE):
            await session.call.write(request)
        await settle(session, 21, 80)
        returned = np.frombuffer(b"".join(batch.audio for batch in session.seen.batches), "<i2")
        assert np.count_nonzero(returned == 1000) == SECOND, "all of the new"
        at = np.flatnonzero(returned == 1000)
        assert at[-1] - at[0] == SECOND - 1, "in one piece"
        assert not np.count_nonzero(returned[at[0] :] == 16384), "none of the old"
        numbers = [
            event.utterance_started.utterance for event in session.events("utterance_started")
        ]
        assert numbers == [1, 2]


async def test_interrupt_after_a_sample_keeps_speech_up_to_it() -> None:
    clock = StillClock()
    async with running_gateway(clock=clock) as gateway, live_session(gateway, clock) as session:
        await session.call.write(LOUD)
        await session.play(0, 20)
        sample = 40 * 2000 // 3
        interrupt = pb.Interrupt(after_sample_index=sample)
        await session.call.write(pb.StreamAnimateRequest(interrupt=interrupt))
        await asyncio.sleep(0.1)
        assert not session.events("interrupted"), "not before its place"
        await settle(session, 20, 70)
        (event,) = session.events("interrupted")
        assert event.frame_index == 40
        is_idle = session.is_idle()
        assert not is_idle[39]
        assert all(is_idle[i] for i in is_idle if i >= 40)
        epochs = {b.first_frame_index: b.epoch for b in session.seen.batches}
        assert {epochs[i] for i in epochs if i < 40} == {0}
        assert {epochs[i] for i in epochs if i >= 40} == {1}


async def test_interrupts_in_a_row_and_in_idle() -> None:
    clock = StillClock()
    async with running_gateway(clock=clock) as gateway, live_session(gateway, clock) as session:
        await session.play(0, 9)
        for number in range(1, 4):
            await interrupted(session)
            event = session.events("interrupted")[-1]
            assert event.epoch == number
            assert not event.interrupted.HasField("last_kept_frame_index")
            assert event.interrupted.dropped_samples == 0
        await settle(session, 9, 40)
        assert all(session.is_idle().values())
        assert session.num_frames == 40


async def test_engines_that_are_at_it_are_not_waited_for() -> None:
    clock = StillClock()
    async with running_gateway(clock=clock) as gateway, live_session(gateway, clock) as session:
        await session.call.write(LOUD)
        await session.play(0, 18)
        faults = gateway.engines.denoiser.faults
        num_runs = len(faults.batch_sizes)
        faults.hold()
        frame = await session.play_until(lambda: len(faults.batch_sizes) > num_runs, 18)
        await interrupted(session)
        assert session.events("interrupted")[0].frame_index == frame
        cancelled = {"engine": "denoiser", "outcome": "cancelled"}
        await until(lambda: gateway.metric("mirrorme_engine_calls_total", **cancelled) == 1)
        await session.play(frame, frame + 3)
        pixels = session.seen.pixels
        assert pixels[frame : frame + 3] == [pixels[frame - 1]] * 3, "the last one sent, shown on"
        faults.release()
        await settle(session, frame + 3, 60)
        assert session.num_frames == 60
        assert all(idle for i, idle in session.is_idle().items() if i >= frame)


async def test_frames_left_out_after_an_interrupt_have_their_silence() -> None:
    """The machine stands still for a while, just when the last picture is shown on."""
    clock = StillClock()
    async with running_gateway(clock=clock) as gateway, live_session(gateway, clock) as session:
        await session.play(0, 4)
        await session.call.write(LOUD)
        await session.play(4, 20)
        gateway.engines.denoiser.faults.hold()
        await interrupted(session)
        await session.play(20, 21)
        num_before = len(session.seen.batches)
        clock.move_to(clock.now_s() + 6 * FRAME_S)
        await until(lambda: len(session.seen.batches) > num_before or session.error)
        gateway.engines.denoiser.faults.release()
        await session.play_out()
        assert session.error is None
        audio_samples = sum(len(batch.audio) // 2 for batch in session.seen.batches)
        assert audio_samples == session.num_frames * 2000 // 3


async def test_h264_goes_on_decodable() -> None:
    clock = StillClock()
    output = pb.OutputFormat(encoding=pb.FRAME_ENCODING_H264)
    async with (
        running_gateway(clock=clock) as gateway,
        live_session(gateway, clock, output=output) as session,
    ):
        await session.call.write(LOUD)
        await session.play(0, 22)
        await interrupted(session)
        await settle(session, 22, 60)
        codec = av.CodecContext.create("h264", "r")
        decoded = 0
        for frame in session.seen.frames:
            decoded += len(codec.decode(av.Packet(frame.data)))
        decoded += len(codec.decode(None))
        assert decoded == len(session.seen.frames)
        keys = [
            i for i, f in zip(session.indices, session.seen.frames, strict=True) if f.is_key_frame
        ]
        assert keys[0] == 0
        assert all(key >= 22 for key in keys[1:])


async def test_as_fast_as_possible_drops_what_is_not_delivered() -> None:
    async with running_gateway() as gateway:
        call = gateway.stub.StreamAnimate()
        seen = Animation()
        await call.write(config(include_audio=True, max_unacked_frames=8))
        await call.write(audio(speech(4 * SECOND)))
        while len(seen.frames) < 8:
            seen.take(await call.read())
        await call.write(INTERRUPT)
        new = speech(SECOND, seed=9)
        await call.write(audio(new))
        await call.write(pb.StreamAnimateRequest(ack=pb.FrameAck(last_frame_index=7)))
        await call.done_writing()
        while not seen.summary:
            seen.take(await call.read())
        (event,) = [event for event in seen.events if event.HasField("interrupted")]
        assert event.frame_index == 8
        assert event.interrupted.dropped_samples == 4 * SECOND - 8 * 2000 // 3
        indices = [b.first_frame_index + i for b in seen.batches for i in range(len(b.frames))]
        assert indices == list(range(len(indices)))
        assert len(indices) == 8 + 24
        assert b"".join(batch.audio for batch in seen.batches if batch.epoch == 1) == new
        assert seen.summary.num_interrupts == 1
