"""The Python client against the real gateway, over fake engines."""

from __future__ import annotations

import asyncio
from pathlib import Path

import av
import grpc
import pytest
from mirrorme.animate.v1 import animation_pb2 as pb
from mirrorme_client import AnimationClient, h264, jpeg, pcm_f32le, pcm_s16le, rgb24
from mirrorme_client.audio_file import AudioFile
from mirrorme_client.errors import InvalidRequest, NotFound, NotServed
from mirrorme_client.hand_file import read_hands
from mirrorme_client.recording import RecordingPlan, record
from mirrorme_service import disclosure

from tests.client.speech_files import beeps, write_wav
from tests.service.gateway import Gateway, running_gateway, until

PORTRAIT = Path(__file__).parents[2] / "examples" / "portrait_1.png"
OTHER_PORTRAIT = PORTRAIT.with_name("portrait_2.png")
CENTER = pb.CROP_MODE_CENTER
PCM = pcm_s16le(16000)


def connected(gateway: Gateway) -> AnimationClient:
    return AnimationClient(f"127.0.0.1:{gateway.server.port}")


async def pixels(client: AnimationClient, speech: list[bytes], **settings) -> list[bytes]:
    settings = {"audio_format": PCM, "crop_mode": CENTER, "seed": 1, **settings}
    async with client.animate(PORTRAIT, audio=speech, **settings) as session:
        return [frame.data async for batch in session for frame in batch.frames]


async def test_the_same_however_it_is_pushed() -> None:
    speech = beeps(2.0, (0.5,)).tobytes()
    async with running_gateway() as gateway, connected(gateway) as client:
        whole = await pixels(client, [speech])
        pieces = await pixels(client, [speech[i : i + 641] for i in range(0, len(speech), 641)])
        other = await pixels(client, [speech], seed=2)
    assert len(whole) == 48
    assert whole == pieces
    assert whole != other


@pytest.mark.parametrize("audio_format", [pcm_s16le(48000, 2), pcm_f32le(8000)])
@pytest.mark.parametrize("output", [jpeg(50), h264(), rgb24()])
async def test_formats(audio_format: pb.AudioFormat, output: pb.OutputFormat) -> None:
    speech = [bytes(audio_format.sample_rate_hz * 4)]
    async with running_gateway() as gateway, connected(gateway) as client:
        frames = await pixels(client, speech, audio_format=audio_format, output=output)
    assert len(frames) == 24


async def test_registered_portrait_and_capabilities() -> None:
    async with running_gateway() as gateway, connected(gateway) as client:
        first = await client.register_portrait(PORTRAIT, crop_mode=CENTER)
        again = await client.register_portrait(PORTRAIT, crop_mode=CENTER)
        assert (first.already_known, again.already_known) == (False, True)
        session = client.animate(first.portrait, audio_format=PCM, audio=[bytes(32000)])
        async with session:
            assert [batch async for batch in session]
            assert session.started.portrait.portrait_id == first.portrait.portrait_id
            assert session.summary.num_frames == 24
        capabilities = await client.capabilities()
    assert not capabilities.presets[0].model.trained


async def test_errors_arrive_as_what_can_be_done() -> None:
    async with running_gateway() as gateway, connected(gateway) as client:
        with pytest.raises(InvalidRequest, match="send a PNG, JPEG or WebP") as raised:
            await client.register_portrait(b"not a picture")
        assert raised.value.code == grpc.StatusCode.INVALID_ARGUMENT
        assert raised.value.reason
        with pytest.raises(NotFound):
            async with client.animate("0" * 64, audio_format=PCM):
                pass
        with pytest.raises(NotServed, match="guidance"):
            async with client.animate(PORTRAIT, audio_format=PCM, crop_mode=CENTER, guidance=2.0):
                pass
        with pytest.raises(InvalidRequest, match="sample_rate_hz") as raised:
            async with client.animate(PORTRAIT, audio_format=pcm_s16le(7), crop_mode=CENTER):
                pass
        assert raised.value.violations[0].field == "config.audio_format.sample_rate_hz"


async def test_error_in_mid_session_while_pushing() -> None:
    async with running_gateway() as gateway, connected(gateway) as client:
        for _ in range(5):
            session = client.animate(PORTRAIT, audio_format=PCM, crop_mode=CENTER)
            async with session:
                with pytest.raises(InvalidRequest, match="no_such_control"):
                    await session.push_audio(bytes(32000))
                    await session.set_controls({"no_such_control": 1.0})
                    session.feed([bytes(1600)] * 200)
                    async for _batch in session:
                        pass
        await gateway.until_idle()


async def test_recording_with_hands_and_controls(tmp_path: Path) -> None:
    speech = beeps(3.5, (0.5,), 22050)
    points = ", ".join(["[0.5, 0.5]"] * 21)
    poses = ", ".join(f'{{"frame_index": {i}, "left": [{points}]}}' for i in range(120))
    (tmp_path / "hands.json").write_text(f"[{poses}]")
    plan = RecordingPlan(
        PORTRAIT,
        h264(),
        crop_mode=CENTER,
        hands=read_hands(tmp_path / "hands.json"),
        controls=[pb.FacialControl(name="jawOpen", value=0.5)],
    )
    path = tmp_path / "out.mp4"
    async with running_gateway() as gateway, connected(gateway) as client:
        with AudioFile(write_wav(tmp_path / "speech.wav", speech, 22050)) as file:
            recording = await record(client, plan, file, path)
    assert recording.num_frames == recording.summary.num_frames == 84
    assert recording.first_frame_latency_s < recording.wall_s
    with av.open(str(path)) as container:
        assert container.streams.video[0].frames == 84
        assert container.streams.video[0].average_rate == 24
        assert abs(container.duration / av.time_base - 3.5) <= 1 / 24


async def test_leaving_frees_the_place() -> None:
    async with running_gateway(max_sessions=1) as gateway, connected(gateway) as client:
        for _ in range(3):
            session = client.animate(PORTRAIT, audio_format=PCM, crop_mode=CENTER)
            async with session:
                await session.push_audio(bytes(64000))
                await anext(session)
            await gateway.until_idle()


async def test_live_conversation() -> None:
    """Speech, a barge-in, an answer, a pause and another portrait, in real time."""
    told: list[str] = []
    frames: list[pb.FrameBatch] = []
    async with running_gateway() as gateway, connected(gateway) as client:
        session = client.animate(
            PORTRAIT,
            audio_format=PCM,
            crop_mode=CENTER,
            pacing=pb.PACING_REAL_TIME,
            on_event=lambda event: told.append(event.WhichOneof("event")),
        )

        async def talk() -> None:
            await session.push_audio(beeps(30.0, (1.0,)).tobytes())
            await until(lambda: "utterance_started" in told)
            await session.interrupt()
            await until(lambda: "interrupted" in told)
            await session.pause()
            await until(lambda: "paused" in told)
            await session.resume()
            await session.change_portrait(OTHER_PORTRAIT, CENTER)
            await until(lambda: "portrait_changed" in told)
            await session.push_audio(beeps(0.5, (0.2,)).tobytes())
            await session.end_utterance()
            await session.finish()

        async with session, asyncio.TaskGroup() as tasks:
            tasks.create_task(talk())
            frames = [batch async for batch in session]
            assert session.started.effective_config.max_unacked_frames == 24
    assert frames[-1].epoch == 1
    assert frames[-1].utterance == 2
    assert sum(len(b.frames) for b in frames if b.utterance == 2 and not b.is_idle) <= 12
    assert session.summary.num_interrupts == 1
    assert session.summary.num_utterances == 2


async def test_recording_in_real_time(tmp_path: Path) -> None:
    plan = RecordingPlan(PORTRAIT, h264(), crop_mode=CENTER, pacing=pb.PACING_REAL_TIME)
    path = tmp_path / "out.mp4"
    async with running_gateway() as gateway, connected(gateway) as client:
        with AudioFile(write_wav(tmp_path / "speech.wav", beeps(1.0, (0.5,)), 16000)) as file:
            recording = await record(client, plan, file, path)
    summary = recording.summary
    assert summary.num_frames - summary.num_idle_frames + summary.num_skipped_frames >= 24
    with av.open(str(path)) as container:
        assert container.streams.video[0].frames == summary.num_frames


@pytest.mark.parametrize("output", [h264(), jpeg()])
async def test_the_file_says_that_it_is_generated(tmp_path: Path, output: pb.OutputFormat) -> None:
    """As readers of others see it: ffmpeg's demuxer and decoder."""
    write_wav(tmp_path / "speech.wav", beeps(3.0, (0.5,)))
    path = tmp_path / "out.mp4"
    async with running_gateway() as gateway, connected(gateway) as client:
        with AudioFile(tmp_path / "speech.wav") as speech:
            plan = RecordingPlan(PORTRAIT, output, crop_mode=CENTER)
            await record(client, plan, speech, path)
    with av.open(str(path)) as container:
        assert container.metadata["comment"] == disclosure.TEXT
        assert container.metadata["description"] == disclosure.SOURCE_TYPE
        marked = [
            any(disclosure.TEXT.encode() in bytes(data) for data in frame.side_data)
            for frame in container.decode(video=0)
            if frame.key_frame
        ]
    if output.encoding == pb.FRAME_ENCODING_H264:
        assert marked == [True, True]
    else:
        assert path.read_bytes().count(disclosure.TEXT.encode()) == 72 + 1
