"""Sessions through a real gateway: what a client gets for what it sends."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
import simplejpeg
from mirrorme.animate.v1 import animation_pb2 as pb
from mirrorme_engines.fake_compute import FrameCodes, read_codes
from mirrorme_engines.fake_manifest import fake_manifest

from tests.service.gateway import (
    END_OF_UTTERANCE,
    SECOND,
    Animation,
    Gateway,
    animate,
    audio,
    config,
    cut,
    portrait_png,
    running_gateway,
    session_config,
    speech,
)

pytestmark = pytest.mark.asyncio(loop_scope="session")


def codes(animation: Animation) -> list[FrameCodes]:
    """What the fake engines drew into each raw frame."""
    size = animation.started.frame_size
    shape = (size.height_px, size.width_px, 3)
    return [read_codes(np.frombuffer(data, np.uint8).reshape(shape)) for data in animation.pixels]


async def test_frames_cover_the_audio(gateway: Gateway) -> None:
    animation = await animate(gateway.stub, [config(), audio(speech(2 * SECOND + 1))])
    assert animation.order[0] == "started"
    assert animation.order[-1] == "summary"
    assert len(animation.frames) == 49
    indices = [
        batch.first_frame_index + i for batch in animation.batches for i in range(len(batch.frames))
    ]
    assert indices == list(range(49))
    assert [frame.sample_index for frame in animation.frames] == [
        int(Fraction(2000 * index, 3)) for index in indices
    ]
    assert all(frame.is_key_frame for frame in animation.frames)
    assert {batch.epoch for batch in animation.batches} == {0}
    assert not any(batch.is_idle for batch in animation.batches)


async def test_chunks_follow_each_other(gateway: Gateway) -> None:
    """Every chunk was given its own noise, and the latents of the one before."""
    animation = await animate(gateway.stub, [config(), audio(speech(2 * SECOND))])
    drawn = codes(animation)
    assert [code.latent_count for code in drawn] == [1 + frame // 8 for frame in range(48)]
    assert [code.context_count for code in drawn] == [frame // 8 for frame in range(48)]
    assert [code.frame_in_latent for code in drawn] == [frame % 8 for frame in range(48)]
    assert len({code.noise_code for code in drawn}) == 6
    assert len({code.motion_code for code in drawn}) == 6
    assert len({code.identity_code for code in drawn}) == 1


async def test_loudness_is_seen_where_it_is_heard(gateway: Gateway) -> None:
    silence, tone = np.zeros(SECOND, "<i2"), np.full(SECOND, 16384, "<i2")
    data = np.concatenate([silence, tone, silence]).tobytes()
    energies = [
        code.audio_energy for code in codes(await animate(gateway.stub, [config(), audio(data)]))
    ]
    assert energies[:24] == [0] * 24
    assert energies[24:48] == [128] * 24
    assert energies[48:] == [0] * 24


async def test_started_says_what_is_in_force(gateway: Gateway) -> None:
    sent = session_config(client_reference="a test", include_audio=True)
    sent.ClearField("output")
    started = (await animate(gateway.stub, [pb.StreamAnimateRequest(config=sent)])).started
    force = started.effective_config
    assert len(started.session_id) == 32
    assert force.portrait.portrait_id == started.portrait.portrait_id
    assert force.portrait.WhichOneof("source") == "portrait_id"
    assert force.output == pb.OutputFormat(encoding=pb.FRAME_ENCODING_JPEG, jpeg_quality=90)
    assert force.pacing == pb.PACING_AS_FAST_AS_POSSIBLE
    assert force.audio_format.num_channels == 1
    assert (force.seed, force.expression, force.preset) == (7, 1.0, "fake")
    assert (force.client_reference, force.include_audio) == ("a test", True)
    assert not force.HasField("guidance")
    assert started.model.engine == "fake"
    assert not started.model.trained
    assert started.frame_size == pb.FrameSize(width_px=64, height_px=64)
    assert started.timing.chunk_frames == 8
    assert started.algorithmic_latency_ms == pytest.approx(380)
    assert started.takeover_token == b""


async def test_effective_config_opens_the_same_session_again(gateway: Gateway) -> None:
    sent = session_config(output=pb.OutputFormat())
    sent.ClearField("seed")
    data = audio(speech(SECOND))
    first = await animate(gateway.stub, [pb.StreamAnimateRequest(config=sent), data])
    again = pb.StreamAnimateRequest(config=first.started.effective_config)
    second = await animate(gateway.stub, [again, data])
    assert second.pixels == first.pixels
    assert second.started.effective_config == first.started.effective_config
    assert second.started.session_id != first.started.session_id


async def test_seeds_differ(gateway: Gateway) -> None:
    data = audio(speech(SECOND))
    animations = [await animate(gateway.stub, [config(seed=seed), data]) for seed in (1, 2, 1)]
    assert animations[0].pixels == animations[2].pixels
    noises = [[code.noise_code for code in codes(animation)] for animation in animations[:2]]
    assert noises[0] != noises[1]


async def test_no_audio_is_no_frames(gateway: Gateway) -> None:
    animation = await animate(gateway.stub, [config()])
    assert animation.order == ["started", "summary"]
    assert animation.summary.num_frames == animation.summary.num_chunks == 0


async def test_empty_audio_messages_are_no_audio(gateway: Gateway) -> None:
    animation = await animate(gateway.stub, [config(), audio(b""), END_OF_UTTERANCE, audio(b"")])
    assert animation.order == ["started", "summary"]


async def test_one_sample_is_one_frame(gateway: Gateway) -> None:
    animation = await animate(gateway.stub, [config(), audio(b"\1\0")])
    assert len(animation.frames) == 1
    assert animation.summary.num_audio_samples == 1


async def test_summary_counts(gateway: Gateway) -> None:
    animation = await animate(gateway.stub, [config(), audio(speech(2 * SECOND))])
    summary = animation.summary
    assert summary.num_frames == 48
    assert summary.num_chunks == 6
    assert summary.num_audio_samples == 2 * SECOND
    assert summary.num_utterances == 1
    assert summary.num_frame_bytes == sum(map(len, animation.pixels))
    assert summary.num_idle_frames == summary.num_skipped_frames == summary.num_interrupts == 0
    assert summary.first_frame_latency.ToTimedelta().total_seconds() > 0
    assert 0 < summary.chunk_time_p50.nanos <= summary.chunk_time_p99.nanos
    assert summary.session_time.ToTimedelta() > summary.first_frame_latency.ToTimedelta()


async def test_audio_comes_back_with_its_frames(gateway: Gateway) -> None:
    data = speech(SECOND + 123)
    requests = [config(include_audio=True), *map(audio, cut(data, [5000, 7001, 3, 9000]))]
    animation = await animate(gateway.stub, requests)
    assert b"".join(batch.audio for batch in animation.batches) == data
    for batch, following in itertools.pairwise(animation.batches):
        first, stop = batch.frames[0].sample_index, following.frames[0].sample_index
        assert batch.audio == data[2 * first : 2 * stop]


@pytest.mark.parametrize("rate", [8_000, 11_025, 44_100, 48_000])
@pytest.mark.parametrize("channels", [1, 2])
async def test_any_audio_rate_gives_the_frames_of_its_length(
    gateway: Gateway, rate: int, channels: int
) -> None:
    audio_format = pb.AudioFormat(
        encoding=pb.AUDIO_ENCODING_PCM_F32LE, sample_rate_hz=rate, num_channels=channels
    )
    samples = np.zeros((2 * rate, channels), "<f4")
    requests = [config(audio_format=audio_format), audio(samples.tobytes())]
    animation = await animate(gateway.stub, requests)
    assert len(animation.frames) == 48
    assert animation.summary.num_audio_samples == 2 * SECOND


async def test_jpeg_frames(gateway: Gateway) -> None:
    data = audio(speech(SECOND // 2))
    raw = await animate(gateway.stub, [config(), data])
    output = pb.OutputFormat(encoding=pb.FRAME_ENCODING_JPEG, jpeg_quality=95)
    jpeg = await animate(gateway.stub, [config(output=output), data])
    decoded = [simplejpeg.decode_jpeg(frame) for frame in jpeg.pixels]
    for picture, code in zip(decoded, codes(raw), strict=True):
        assert abs(read_codes(picture).noise_code - code.noise_code) <= 2


async def test_i420_frames(gateway: Gateway) -> None:
    output = pb.OutputFormat(encoding=pb.FRAME_ENCODING_I420)
    animation = await animate(gateway.stub, [config(output=output), audio(speech(SECOND))])
    assert {len(data) for data in animation.pixels} == {64 * 64 * 3 // 2}
    assert all(len(batch.frames) == 1 for batch in animation.batches)


async def test_h264_frames_have_key_frames_where_asked(gateway: Gateway) -> None:
    output = pb.OutputFormat(encoding=pb.FRAME_ENCODING_H264, h264_key_frame_interval_frames=10)
    animation = await animate(gateway.stub, [config(output=output), audio(speech(2 * SECOND))])
    keys = [index for index, frame in enumerate(animation.frames) if frame.is_key_frame]
    assert keys == [0, 10, 20, 30, 40]
    assert all(data.startswith(b"\0\0\0\1") for data in animation.pixels)


def described(animation: Animation) -> list[tuple[int, str, int]]:
    """Frame, kind and utterance of each event."""
    return [
        (event.frame_index, kind, getattr(event, kind).utterance)
        for event in animation.events
        if (kind := event.WhichOneof("event"))
    ]


async def test_utterances(gateway: Gateway) -> None:
    requests = [config()]
    for _ in range(3):  # of 11.25 frames each
        requests += [audio(speech(7500)), END_OF_UTTERANCE, END_OF_UTTERANCE]
    animation = await animate(gateway.stub, requests)
    assert described(animation) == [
        (0, "utterance_started", 1),
        (12, "utterance_finished", 1),
        (12, "utterance_started", 2),
        (23, "utterance_finished", 2),
        (23, "utterance_started", 3),
        (34, "utterance_finished", 3),
    ]
    numbers = [batch.utterance for batch in animation.batches for _ in batch.frames]
    assert numbers == [1] * 12 + [2] * 11 + [3] * 11
    assert animation.summary.num_utterances == 3
    assert all(event.sample_index == event.frame_index * 2000 // 3 for event in animation.events)


async def test_events_stand_where_they_belong_among_the_frames(gateway: Gateway) -> None:
    requests = [config(), audio(speech(7500)), END_OF_UTTERANCE, audio(speech(7500))]
    frames_before = []
    num_frames = 0
    async for response in gateway.stub.StreamAnimate(requests):
        if response.HasField("frames"):
            num_frames += len(response.frames.frames)
        if response.HasField("event"):
            frames_before.append((num_frames, response.event.frame_index))
    assert frames_before == [(0, 0), (12, 12), (12, 12), (23, 23)]


async def test_utterances_do_not_change_the_frames(gateway: Gateway) -> None:
    pieces = [audio(piece) for piece in cut(speech(2 * SECOND), [9_000, 20_000])]
    plain = await animate(gateway.stub, [config(), *pieces])
    parted = await animate(gateway.stub, [config(), pieces[0], END_OF_UTTERANCE, *pieces[1:]])
    assert parted.pixels == plain.pixels


def hand_pose(frame: int, x: float = 0.5) -> pb.HandPose:
    hand = pb.Hand(keypoints=[pb.Keypoint(x=x, y=0.5)] * 21)
    return pb.HandPose(frame_index=frame, left=hand)


async def test_hand_poses_reach_their_chunk(gateway: Gateway) -> None:
    poses = pb.StreamAnimateRequest(hand_poses=pb.HandPoses(poses=[hand_pose(12)]))
    animation = await animate(gateway.stub, [config(), poses, audio(speech(SECOND))])
    seen = [code.hands_code > 0 for code in codes(animation)]
    assert seen == [False] * 8 + [True] * 8 + [False] * 8


async def test_facial_controls_hold(gateway: Gateway) -> None:
    control = pb.FacialControl(name="jawOpen", value=0.5)
    sent = pb.FacialControls(first_frame_index=8, controls=[control])
    request = pb.StreamAnimateRequest(facial_controls=sent)
    data = audio(speech(SECOND))
    drawn = [
        code.controls_code for code in codes(await animate(gateway.stub, [config(), request, data]))
    ]
    plain = [code.controls_code for code in codes(await animate(gateway.stub, [config(), data]))]
    assert drawn[:8] == plain[:8]
    assert drawn[8:] == [drawn[8]] * 16
    assert drawn[8] != plain[8]


async def test_expression_reaches_the_engine(gateway: Gateway) -> None:
    data = audio(speech(SECOND))
    drawn = {
        codes(await animate(gateway.stub, [config(expression=value), data]))[0].controls_code
        for value in (0.5, 1.0)
    }
    assert len(drawn) == 2


async def test_registered_portrait(gateway: Gateway) -> None:
    request = pb.RegisterPortraitRequest(
        image=portrait_png(11, (100, 80)), crop_mode=pb.CROP_MODE_PAD
    )
    first = await gateway.stub.RegisterPortrait(request)
    second = await gateway.stub.RegisterPortrait(request)
    assert not first.already_known
    assert second.already_known
    assert first.portrait == second.portrait
    assert first.portrait.source_size == pb.FrameSize(width_px=100, height_px=80)
    source = pb.PortraitSource(portrait_id=first.portrait.portrait_id)
    data = audio(speech(SECOND))
    by_id = await animate(gateway.stub, [config(portrait=source), data])
    source = pb.PortraitSource(image=request.image, crop_mode=pb.CROP_MODE_PAD)
    by_picture = await animate(gateway.stub, [config(portrait=source), data])
    assert by_id.pixels == by_picture.pixels
    assert by_id.started.portrait.portrait_id == first.portrait.portrait_id


async def test_same_portrait_is_encoded_once() -> None:
    async with running_gateway() as gateway:
        for _ in range(2):
            await animate(gateway.stub, [config()])
        assert len(gateway.engines.identity_encoder.faults.batch_sizes) == 1
        assert gateway.metric("mirrorme_identity_lookups_total", result="hit") == 1
        assert gateway.metric("mirrorme_identity_lookups_total", result="miss") == 1


@pytest.mark.parametrize("lookahead", [0, 1, 2, 4])
@pytest.mark.parametrize("num_latents", [1, 3])
async def test_decoder_lookahead(lookahead: int, num_latents: int) -> None:
    """Every frame is decoded with the latents around it, those at the end too."""
    manifest = fake_manifest(num_latents=num_latents, decoder_lookahead_latents=lookahead)
    async with running_gateway(manifest) as gateway:
        for num_samples in (1, 5333, 5334, 16_000, 33_000):
            animation = await animate(gateway.stub, [config(), audio(speech(num_samples))])
            drawn = codes(animation)
            assert len(drawn) == -(-num_samples * 24 // 16_000)
            for frame, code in enumerate(drawn):
                latent = frame // 8
                assert code.latent_count == latent + 1
                assert code.context_count == latent
                is_last_given = latent % num_latents == num_latents - 1 and not lookahead
                assert code.lookahead_count == (0 if is_last_given else latent + 2)


async def test_guidance_reaches_a_model_that_has_it() -> None:
    async with running_gateway(fake_manifest(guidance=True)) as gateway:
        data = audio(speech(SECOND))
        default, strong = [
            await animate(gateway.stub, [config(**change), data])
            for change in ({}, {"guidance": 4.0})
        ]
        capabilities = await gateway.stub.GetCapabilities(pb.GetCapabilitiesRequest())
    assert default.started.effective_config.guidance == 1.0
    assert codes(default)[0].controls_code != codes(strong)[0].controls_code
    assert "config.guidance" not in capabilities.unimplemented_fields
    assert capabilities.presets[0].guidance == pb.FloatRange(min=1, max=4, default=1)
