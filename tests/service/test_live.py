"""Sessions in real time: steady frames, idle where nobody speaks, speech where it was placed."""

from __future__ import annotations

import asyncio
import itertools

import numpy as np
import pytest
from mirrorme.animate.v1 import animation_pb2 as pb
from mirrorme_engines.fake_manifest import fake_manifest
from mirrorme_service.load_governor import LoadGovernor

from tests.service.gateway import (
    END_OF_UTTERANCE,
    SECOND,
    Gateway,
    audio,
    refusal,
    running_gateway,
    until,
)
from tests.service.gateway import config as first_message
from tests.service.live_session import (
    CHUNK_FRAMES,
    FIRST_LEAD_S,
    FRAME_S,
    LiveSession,
    live_session,
)
from tests.service.still_clock import StillClock

pytestmark = pytest.mark.asyncio(loop_scope="session")

TONE = np.full(SECOND, 16384, "<i2")


def tone(num_samples: int) -> pb.StreamAnimateRequest:
    return audio(TONE[:num_samples].tobytes())


async def heard(gateway: Gateway, session: LiveSession, *requests: pb.StreamAnimateRequest) -> None:
    """Sends, and waits until the server has taken it: a pause is answered in order."""
    num_paused = len(session.events("resumed"))
    for request in requests:
        await session.call.write(request)
    await session.call.write(pb.StreamAnimateRequest(pause=pb.Pause()))
    await session.call.write(pb.StreamAnimateRequest(resume=pb.Resume()))
    await until(lambda: len(session.events("resumed")) > num_paused)


async def test_frames_leave_one_by_one_at_their_time() -> None:
    clock = StillClock()
    async with running_gateway(clock=clock) as gateway, live_session(gateway, clock) as session:
        await asyncio.sleep(0.1)
        assert session.indices == [], "no frame before its time"
        for frame in range(20):
            await session.play(frame, frame + 1)
            await asyncio.sleep(0.02)
            assert session.indices == list(range(frame + 1))
        assert [frame.sample_index for frame in session.seen.frames] == [
            index * 2000 // 3 for index in range(20)
        ]
        assert all(session.is_idle().values())
        assert {batch.utterance for batch in session.seen.batches} == {0}
        await session.play_out()
        summary = session.seen.summary
        assert session.num_frames <= 21, "nothing is animated after the client's end"
        assert summary.num_frames == summary.num_idle_frames == session.num_frames
        assert summary.num_skipped_frames == summary.num_late_frames == 0


async def test_speech_is_placed_and_told_as_it_is() -> None:
    clock = StillClock()
    async with running_gateway(clock=clock) as gateway, live_session(gateway, clock) as session:
        await session.play(0, 11)
        await heard(gateway, session, tone(SECOND), END_OF_UTTERANCE)
        await session.play(11, 72)
        await session.play_out()
        (started,) = session.events("utterance_started")
        (finished,) = session.events("utterance_finished")
        first, stop = started.frame_index, finished.frame_index
        assert stop - first == 24
        assert 11 <= first <= 11 + 2 * CHUNK_FRAMES + 2
        assert not finished.utterance_finished.interrupted
        codes, is_idle = session.codes(), session.is_idle()
        assert [i for i in codes if not is_idle[i]] == list(range(first, stop))
        # A latent frame shows the loudness of its own third of a second.
        loud = [index for index, code in codes.items() if code.audio_energy > 0]
        assert loud == list(range(first // 8 * 8, -(-stop // 8) * 8))
        assert session.indices == list(range(session.num_frames))
        returned = np.frombuffer(b"".join(b.audio for b in session.seen.batches), "<i2")
        (at,) = np.flatnonzero(np.diff((returned != 0).astype(int)) == 1)
        assert np.count_nonzero(returned) == SECOND
        assert first == -(-(at + 1) * 3 // 2000)
        assert session.seen.summary.num_audio_samples == SECOND


async def test_speech_at_its_own_pace_is_delayed_alike_wherever_it_begins() -> None:
    """Live speech is on screen after the algorithmic latency and the time to make a chunk."""
    delays = []
    for begin in (9, 11, 12, 14, 16):
        clock = StillClock()
        async with running_gateway(clock=clock) as gateway, live_session(gateway, clock) as session:
            await session.play(0, begin)
            for frame in range(begin, begin + 40):
                piece = TONE[: 2000 * (frame - begin + 1) // 3 - 2000 * (frame - begin) // 3]
                await heard(gateway, session, audio(piece.tobytes()))
                await session.play(frame, frame + 1)
            (started,) = session.events("utterance_started")
            delays.append(started.frame_index - begin)
            # Once begun, it goes on without a gap.
            idle = session.is_idle()
            assert not any(idle[i] for i in range(started.frame_index, session.num_frames))
            latency_s = session.seen.started.algorithmic_latency_ms / 1000
        # How early a chunk is begun, what is held back, and the steps of this test.
        assert delays[-1] * FRAME_S <= latency_s + FIRST_LEAD_S + 4 * FRAME_S
    assert max(delays) - min(delays) <= 3


async def test_half_close_plays_what_was_sent_to_its_end() -> None:
    clock = StillClock()
    async with running_gateway(clock=clock) as gateway, live_session(gateway, clock) as session:
        await session.call.write(tone(SECOND))
        await session.play_out()
        assert sum(not idle for idle in session.is_idle().values()) == 24
        assert not session.is_idle()[session.num_frames - 1], "and ends with it"
        assert session.seen.order[-1] == "summary"
        assert session.seen.summary.num_utterances == 1


async def test_idle_faces_blink_and_speaking_ones_are_left_alone() -> None:
    clock = StillClock()
    async with running_gateway(clock=clock) as gateway, live_session(gateway, clock) as session:
        await session.play(0, 90)
        plain = [code.controls_code for code in session.codes().values()]
        assert len(set(plain)) > 1, "a blink in every 90 frames"
        first = session.codes()
    async with running_gateway(clock=clock) as gateway, live_session(gateway, clock) as session:
        await session.play(0, 90)
        assert session.codes() == first, "the seed decides"


async def test_pause_stops_the_clock_of_the_video() -> None:
    clock = StillClock()
    async with running_gateway(clock=clock) as gateway, live_session(gateway, clock) as session:
        await session.play(0, 10)
        await session.call.write(pb.StreamAnimateRequest(pause=pb.Pause()))
        await until(lambda: session.events("paused"))
        assert session.events("paused")[0].frame_index == 10
        clock.move_to(clock.now_s() + 30)
        await asyncio.sleep(0.05)
        assert session.num_frames == 10
        await session.call.write(tone(SECOND))
        await session.call.write(pb.StreamAnimateRequest(resume=pb.Resume()))
        await until(lambda: session.events("resumed"))
        session._start_s += 30
        await session.play(10, 60)
        assert session.indices == list(range(60))
        assert sum(not idle for idle in session.is_idle().values()) == 24


async def test_late_engines_leave_frames_out_and_say_so() -> None:
    clock = StillClock()
    manifest = fake_manifest(num_steps=(4, 1))
    async with (
        running_gateway(manifest, clock=clock) as gateway,
        live_session(gateway, clock) as session,
    ):
        await session.play(0, 18)
        faults = gateway.engines.denoiser.faults
        faults.hold()
        num_runs = len(faults.batch_sizes)
        await session.play_until(lambda: len(faults.batch_sizes) > num_runs, 18)
        session.move_to_frame(47)
        await asyncio.sleep(0.05)
        assert session.num_frames <= 32, "nothing is made up"
        faults.release()
        await until(lambda: gateway.engines.other_denoisers[0].faults.batch_sizes)
        await session.play(48, 88)
        gaps = [b - a for a, b in itertools.pairwise(session.indices) if b - a > 1]
        assert len(gaps) == 1
        assert gaps[0] >= 16
        assert [frame.sample_index for frame in session.seen.frames] == [
            index * 2000 // 3 for index in session.indices
        ], "positions stay true"
        levels = [event.degraded.level for event in session.events("degraded")]
        assert levels[0] in (pb.DEGRADATION_LEVEL_FEWER_STEPS, pb.DEGRADATION_LEVEL_LOWER_RATE)
        returned = b"".join(batch.audio for batch in session.seen.batches)
        assert len(returned) == 2 * (session.num_frames * 2000 // 3), "audio has no gap"
        await session.play_out()
        assert session.seen.summary.num_skipped_frames == gaps[0] - 1


async def test_another_portrait_from_a_chunk_on() -> None:
    clock = StillClock()
    async with running_gateway(clock=clock) as gateway, live_session(gateway, clock) as session:
        await session.play(0, 10)
        source = first_message(seed=1).config.portrait
        source.crop_mode = pb.CROP_MODE_PAD
        from tests.service.gateway import portrait_png

        source.image = portrait_png(5, (90, 70))
        change = pb.ChangePortrait(portrait=source)
        await session.call.write(pb.StreamAnimateRequest(change_portrait=change))
        await until(lambda: len(gateway.engines.identity_encoder.faults.batch_sizes) == 2)
        await heard(gateway, session)
        await session.play(10, 40)
        (event,) = session.events("portrait_changed")
        assert event.frame_index % CHUNK_FRAMES == 0
        codes = session.codes()
        before = {codes[i].identity_code for i in range(event.frame_index)}
        after = {codes[i].identity_code for i in range(event.frame_index, 40)}
        assert len(before) == len(after) == 1
        assert before != after
        assert codes[event.frame_index].latent_count == 1, "no motion of the portrait before"
        portrait = event.portrait_changed.portrait
        assert portrait.source_size == pb.FrameSize(width_px=90, height_px=70)


async def test_decoder_that_looks_ahead_delays_the_start_alone() -> None:
    clock = StillClock()
    manifest = fake_manifest(decoder_lookahead_latents=1)
    async with (
        running_gateway(manifest, clock=clock) as gateway,
        live_session(gateway, clock) as session,
    ):
        session._start_s = clock.now_s() + LoadGovernor(1 / 3, 1 / 2, has_cheaper=False).lead_s
        for _ in range(40):  # to the first frame, in steps that let chunks be made
            clock.move_to(clock.now_s() + FRAME_S / 2)
            await asyncio.sleep(0.01)
            if session.num_frames:
                break
        await session.call.write(tone(SECOND // 2))
        await session.play(session.num_frames, 60)
        assert session.indices == list(range(60))
        await session.play_out()
        assert sum(not idle for idle in session.is_idle().values()) == 12


async def test_unknown_portrait_ends_the_session() -> None:
    clock = StillClock()
    async with running_gateway(clock=clock) as gateway:
        source = pb.PortraitSource(portrait_id="0" * 64)
        change = pb.StreamAnimateRequest(change_portrait=pb.ChangePortrait(portrait=source))
        error = await refusal(gateway.stub, [first_message(pacing=pb.PACING_REAL_TIME), change])
        assert (error.status, error.reason) == ("NOT_FOUND", "PORTRAIT_UNKNOWN")
        assert error.field == "change_portrait.portrait.portrait_id"


async def test_too_much_audio_is_refused_not_kept() -> None:
    clock = StillClock()
    settings = {"max_buffered_audio_s": 2.0, "max_audio_ahead_s": 3.0}
    async with running_gateway(clock=clock, **settings) as gateway:
        requests = [first_message(pacing=pb.PACING_REAL_TIME), *[tone(SECOND)] * 6]
        error = await refusal(gateway.stub, requests)
        assert (error.status, error.reason) == ("OUT_OF_RANGE", "AUDIO_TOO_FAR_AHEAD")


async def test_session_length_is_bounded() -> None:
    clock = StillClock()
    async with (
        running_gateway(clock=clock, max_session_s=1.0) as gateway,
        live_session(gateway, clock) as session,
    ):
        with pytest.raises(AssertionError, match="longer than 1 s"):
            await session.play(0, 40)
        assert session.num_frames >= 16
