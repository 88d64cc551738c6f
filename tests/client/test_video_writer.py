"""Recorded videos: codecs, rate, length and sync, and nothing left after an error."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from mirrorme.animate.v1 import animation_pb2 as pb
from mirrorme_client import AnimationClient, h264, jpeg, pcm_f32le, pcm_s16le
from mirrorme_client.audio_file import AudioFile
from mirrorme_client.contact_sheet import write_contact_sheet
from mirrorme_client.errors import ServerFault, UnreadableInput, UnwritableOutput
from mirrorme_client.frame_writer import check_free, encodings_for, open_writer
from mirrorme_client.recording import Recording, RecordingPlan, record

from tests.client.fake_service import (
    FRAME_RATE,
    Behaviour,
    FakeAnimationService,
    at_capacity,
    serve,
)
from tests.client.speech_files import beeps, write_wav

PORTRAIT = b"\x89PNG portrait"
BEEPS_S = (0.5, 1.25, 3.0)


class RawSpeech:
    """PCM in memory, cut into odd pieces."""

    def __init__(self, audio_format: pb.AudioFormat, data: bytes) -> None:
        self.format = audio_format
        self.duration_s = None
        self._data = data

    async def __aiter__(self):
        for start in range(0, len(self._data), 4099):
            yield self._data[start : start + 4099]


async def make(
    path: Path,
    speech,
    output: pb.OutputFormat,
    behaviour: Behaviour | None = None,
    **plan,
) -> tuple[Recording, FakeAnimationService]:
    service = FakeAnimationService(behaviour)
    async with serve(service) as target, AnimationClient(target) as client:
        return await record(client, RecordingPlan(PORTRAIT, output, **plan), speech, path), service


def bright_times(path: Path) -> list[float]:
    """When the picture turns white, in seconds."""
    times, was_bright = [], False
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            is_bright = frame.to_ndarray(format="gray").mean() > 128
            if is_bright and not was_bright:
                times.append(frame.time)
            was_bright = is_bright
    return times


def loud_times(path: Path) -> list[float]:
    """When the sound turns loud, in seconds."""
    samples, rate_hz, start_s = [], 0, None
    with av.open(str(path)) as container:
        for frame in container.decode(audio=0):
            start_s = frame.time if start_s is None else start_s
            rate_hz = frame.sample_rate
            samples.append(frame.to_ndarray()[0])
    loud = np.flatnonzero(abs(np.concatenate(samples)) > 0.25) / rate_hz + start_s
    return [time for i, time in enumerate(loud) if i == 0 or time - loud[i - 1] > 0.1]


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def annex_b_units(data: bytes) -> list[bytes]:
    return [unit.rstrip(b"\0") for unit in data.split(b"\0\0\1")[1:]]


def length_prefixed_units(data: bytes) -> list[bytes]:
    units = []
    while data:
        end = 4 + int.from_bytes(data[:4], "big")
        units.append(data[4:end])
        data = data[end:]
    return units


def packets(path: Path, kind: str) -> Iterator[av.Packet]:
    with av.open(str(path)) as container:
        for packet in container.demux(**{kind: 0}):
            if packet.size:
                yield packet


@pytest.mark.parametrize("name", ["out.mp4", "out.mov", "out.mkv", "out.M4V"])
@pytest.mark.parametrize("rate_hz", [16000, 44100])
async def test_video_file(tmp_path: Path, name: str, rate_hz: int) -> None:
    samples = beeps(4.03, BEEPS_S, rate_hz)
    path = tmp_path / name
    with AudioFile(write_wav(tmp_path / "speech.wav", samples, rate_hz)) as speech:
        recording, _ = await make(path, speech, h264())
    assert recording.num_frames == 97
    assert recording.num_bytes == path.stat().st_size
    with av.open(str(path)) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert video.codec_context.name == "h264"
        assert audio.codec_context.name == "aac"
        assert audio.rate == rate_hz
        assert video.average_rate == FRAME_RATE
        assert (video.width, video.height) == (64, 64)
        if not name.endswith("mkv"):  # which counts the padding of the last AAC frame
            duration_s = container.duration / av.time_base
            assert abs(duration_s - len(samples) / rate_hz) <= 1 / FRAME_RATE
        assert "Synthetic" in container.metadata.get("comment", container.metadata.get("COMMENT"))
    resolution_s = 0.0011 if name.endswith("mkv") else 1e-9
    for index, packet in enumerate(packets(path, "video")):
        assert abs(packet.pts * packet.time_base - Fraction(index, FRAME_RATE)) <= resolution_s
        assert packet.pts == packet.dts
    for seen_s, heard_s, said_s in zip(bright_times(path), loud_times(path), BEEPS_S, strict=True):
        assert seen_s == pytest.approx(int(said_s * FRAME_RATE) / FRAME_RATE, abs=0.002)
        assert heard_s == pytest.approx(said_s, abs=0.005)
    assert names(tmp_path) == sorted([name, "speech.wav"])


async def test_server_pictures_are_not_encoded_again(tmp_path: Path) -> None:
    speech = RawSpeech(pcm_s16le(16000), beeps(2.0, BEEPS_S).tobytes())
    sent: list[bytes] = []
    service = FakeAnimationService()
    async with serve(service) as target, AnimationClient(target) as client:
        session = client.animate(PORTRAIT, audio_format=speech.format, output=h264(), audio=speech)
        async with session:
            with open_writer(tmp_path / "a.mp4", session.started, speech.format) as writer:
                async for batch in session:
                    writer.write_frames(batch)
                    sent += [frame.data for frame in batch.frames]
    got = [bytes(packet) for packet in packets(tmp_path / "a.mp4", "video")]
    assert len(got) == len(sent) == 48
    for stored, frame in zip(got, sent, strict=True):
        assert length_prefixed_units(stored) == annex_b_units(frame)


async def test_index_comes_first_and_both_tracks_are_interleaved(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    speech = RawSpeech(pcm_s16le(16000), beeps(20.0, BEEPS_S).tobytes())
    await make(path, speech, h264())
    content = path.read_bytes()
    assert 0 < content.index(b"moov") < content.index(b"mdat")
    last_s = {"video": 0.0, "audio": 0.0}
    with av.open(str(path)) as container:
        for packet in container.demux():
            if packet.size:
                last_s[packet.stream.type] = float(packet.pts * packet.time_base)
                assert abs(last_s["video"] - last_s["audio"]) < 1.5


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("kind", ["s16", "f32"])
async def test_raw_speech(tmp_path: Path, kind: str, channels: int) -> None:
    samples = np.repeat(beeps(4.0, BEEPS_S, 24000)[:, None], channels, axis=1)
    if kind == "s16":
        speech = RawSpeech(pcm_s16le(24000, channels), samples.tobytes())
    else:
        data = (samples / 32768).astype("<f4").tobytes()
        speech = RawSpeech(pcm_f32le(24000, channels), data)
    await make(tmp_path / "a.mp4", speech, h264())
    assert loud_times(tmp_path / "a.mp4") == pytest.approx(BEEPS_S, abs=0.005)


async def test_rate_that_aac_does_not_have(tmp_path: Path) -> None:
    speech = RawSpeech(pcm_s16le(17000), beeps(4.0, BEEPS_S, 17000).tobytes())
    await make(tmp_path / "a.mp4", speech, h264())
    assert loud_times(tmp_path / "a.mp4") == pytest.approx(BEEPS_S, abs=0.005)
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert container.streams.audio[0].rate == 22050


async def test_real_time_takes_the_servers_audio(tmp_path: Path) -> None:
    speech = RawSpeech(pcm_s16le(48000), beeps(4.0, BEEPS_S, 48000).tobytes())
    _, service = await make(tmp_path / "a.mp4", speech, h264(), pacing=pb.PACING_REAL_TIME)
    assert service.sessions[0].config.include_audio
    assert loud_times(tmp_path / "a.mp4") == pytest.approx(BEEPS_S, abs=0.005)
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert container.streams.audio[0].rate == 16000


async def test_hands_go_ahead_of_their_speech(tmp_path: Path) -> None:
    hand = pb.Hand(keypoints=[pb.Keypoint(x=0.5, y=0.5)] * 21)
    poses = [pb.HandPose(frame_index=frame, left=hand) for frame in reversed(range(24 * 30))]
    speech = RawSpeech(pcm_s16le(16000), bytes(2 * 16000 * 10))
    controls = [pb.FacialControl(name="head_yaw", value=10)]
    _, service = await make(tmp_path / "a.mp4", speech, h264(), hands=poses, controls=controls)
    (received,) = service.sessions
    assert received.requests[0].facial_controls.controls[0] == controls[0]
    seen = []
    for request, num_bytes in zip(
        received.requests[1:], received.audio_bytes_before[1:], strict=True
    ):
        for pose in request.hand_poses.poses:
            seen.append(pose.frame_index)
            ahead_s = pose.frame_index / 24 - num_bytes / 32000
            assert 0 <= ahead_s < 1.5
    assert seen == list(range(265)), "in order, up to a second past the speech"


async def test_jpeg_frames_in_matroska(tmp_path: Path) -> None:
    speech = RawSpeech(pcm_s16le(16000), beeps(4.0, BEEPS_S).tobytes())
    await make(tmp_path / "a.mkv", speech, jpeg())
    with av.open(str(tmp_path / "a.mkv")) as container:
        assert container.streams.video[0].codec_context.name == "mjpeg"
    assert len(bright_times(tmp_path / "a.mkv")) == 3


@pytest.mark.parametrize(
    ("output", "last"), [("frames", "frames/000047.jpg"), ("f/x%03d.jpg", "f/x047.jpg")]
)
async def test_frames_in_a_folder(tmp_path: Path, output: str, last: str) -> None:
    speech = RawSpeech(pcm_s16le(16000), beeps(2.0, ()).tobytes())
    recording, _ = await make(tmp_path / output, speech, jpeg())
    folder = (tmp_path / last).parent
    assert len(list(folder.iterdir())) == 48
    assert (tmp_path / last).read_bytes().startswith(b"\xff\xd8")
    assert recording.num_bytes == sum(file.stat().st_size for file in folder.iterdir())
    assert names(tmp_path) == [folder.name]


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "frames"])
async def test_nothing_is_left_after_a_failure(tmp_path: Path, name: str) -> None:
    output = jpeg() if name == "frames" else h264()
    speech = RawSpeech(pcm_s16le(16000), bytes(2 * 16000 * 10))
    failing = Behaviour(fail=at_capacity("enough", 1.0), fail_after_frames=80)
    with pytest.raises(Exception, match="enough"):
        await make(tmp_path / name, speech, output, failing)
    assert names(tmp_path) == []


async def test_a_failure_keeps_the_earlier_file(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"earlier")
    speech = RawSpeech(pcm_s16le(16000), bytes(2 * 16000 * 10))
    with pytest.raises(Exception, match="enough"):
        await make(path, speech, h264(), Behaviour(fail=at_capacity("enough", 1.0)))
    assert path.read_bytes() == b"earlier"
    await make(path, speech, h264())
    assert path.read_bytes() != b"earlier"


@pytest.mark.parametrize("name", ["a.mp4", "frames"])
async def test_no_speech_no_file(tmp_path: Path, name: str) -> None:
    output = jpeg() if name == "frames" else h264()
    with pytest.raises(ServerFault, match="no frames"):
        await make(tmp_path / name, RawSpeech(pcm_s16le(16000), b""), output)
    assert names(tmp_path) == []


async def test_folder_that_is_not_there(tmp_path: Path) -> None:
    speech = RawSpeech(pcm_s16le(16000), bytes(32000))
    with pytest.raises(UnwritableOutput, match="no folder"):
        await make(tmp_path / "none" / "a.mp4", speech, h264())


async def test_disk_full(tmp_path: Path) -> None:
    """A file system that takes nothing fails the recording, whenever ffmpeg notices."""
    path = tmp_path / "a.mp4"
    speech = RawSpeech(pcm_s16le(16000), bytes(2 * 16000 * 4))
    service = FakeAnimationService()
    async with serve(service) as target, AnimationClient(target) as client:
        session = client.animate(PORTRAIT, audio_format=speech.format, output=h264(), audio=speech)
        async with session:
            writer = open_writer(path, session.started, speech.format)
            writer._partial.path.symlink_to("/dev/full")
            with pytest.raises(UnwritableOutput, match="cannot write"), writer:
                async for batch in session:
                    writer.write_frames(batch)
    assert names(tmp_path) == []


def test_encodings_by_name(tmp_path: Path) -> None:
    assert encodings_for(tmp_path / "a.mp4") == (pb.FRAME_ENCODING_H264,)
    assert encodings_for(tmp_path) == (pb.FRAME_ENCODING_JPEG,)
    assert encodings_for(tmp_path / "x%d.jpg") == (pb.FRAME_ENCODING_JPEG,)
    for name in ("a.avi", "a.webm", "a%d.png", "a.mp3"):
        with pytest.raises(UnwritableOutput, match="want a name that ends in"):
            encodings_for(tmp_path / name)


def test_what_is_there_is_not_destroyed(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    check_free(tmp_path / "b.mp4", overwrite=False)
    check_free(tmp_path / "a.mp4", overwrite=True)
    with pytest.raises(UnwritableOutput, match="--overwrite"):
        check_free(tmp_path / "a.mp4", overwrite=False)
    for path in (tmp_path, tmp_path / "%d.jpg"):
        with pytest.raises(UnwritableOutput, match="not empty"):
            check_free(path, overwrite=True)


async def test_contact_sheet(tmp_path: Path) -> None:
    speech = RawSpeech(pcm_s16le(16000), beeps(4.0, (0.0,)).tobytes())
    await make(tmp_path / "a.mp4", speech, h264())
    sheet = tmp_path / "a.png"
    shown = write_contact_sheet(
        tmp_path / "a.mp4", sheet, num_columns=4, num_rows=2, cell_width_px=100
    )
    assert shown == 8
    with av.open(str(sheet)) as container:
        (frame,) = container.decode(video=0)
        picture = frame.to_ndarray(format="gray")
    assert picture.shape == (2 * 128 + 4, 4 * 104 + 4)
    assert picture[50, 50] > 200, "the first frame is white"
    assert picture[50, 50 + 104] < 80
    label = picture[104:128, 4:104]
    assert (label > 200).any(), "the time is written below"
    assert names(tmp_path) == ["a.mp4", "a.png"]


async def test_contact_sheet_of_a_short_video(tmp_path: Path) -> None:
    speech = RawSpeech(pcm_s16le(16000), bytes(2 * 2000))
    await make(tmp_path / "a.mp4", speech, h264())
    assert write_contact_sheet(tmp_path / "a.mp4", tmp_path / "a.png") == 3


def test_contact_sheet_of_no_video(tmp_path: Path) -> None:
    for path in (tmp_path / "none.mp4", write_wav(tmp_path / "a.wav", beeps(1.0, ()))):
        with pytest.raises(UnreadableInput):
            write_contact_sheet(path, tmp_path / "a.png")
    assert not (tmp_path / "a.png").exists()
