"""Speech files become mono PCM, whatever they are; damaged ones become errors."""

from __future__ import annotations

import asyncio
import io
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from mirrorme_client.audio_file import AudioFile
from mirrorme_client.errors import UnreadableInput

from tests.client.speech_files import beeps, write_wav


def decode(path: Path) -> tuple[int, np.ndarray]:
    with AudioFile(path) as file:
        data = b"".join(file)
        assert file.format.num_channels == 1
        return file.format.sample_rate_hz, np.frombuffer(data, "<i2")


def encode(path: Path, samples: np.ndarray, rate_hz: int, codec: str, with_video: bool = False):
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate_hz, layout="mono")
        if with_video:
            video = container.add_stream("libx264", rate=24)
            video.width = video.height = 64
            video.pix_fmt = "yuv420p"
            container.mux(video.encode(av.VideoFrame(64, 64, "yuv420p")))
            container.mux(video.encode(None))
        frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
        frame.sample_rate = rate_hz
        frame.time_base = Fraction(1, rate_hz)
        frame.pts = 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    ("rate_hz", "expected_hz"), [(8000, 8000), (16000, 16000), (22050, 22050), (48000, 48000)]
)
def test_wav_at_its_own_rate_is_exact(tmp_path: Path, rate_hz: int, expected_hz: int) -> None:
    samples = beeps(1.0, (0.25,), rate_hz)
    rate, decoded = decode(write_wav(tmp_path / "a.wav", samples, rate_hz))
    assert rate == expected_hz
    np.testing.assert_array_equal(decoded, samples)


@pytest.mark.parametrize(("rate_hz", "expected_hz"), [(96000, 48000), (4000, 8000)])
def test_other_rates_are_resampled(tmp_path: Path, rate_hz: int, expected_hz: int) -> None:
    samples = beeps(1.0, (0.25,), rate_hz)
    rate, decoded = decode(write_wav(tmp_path / "a.wav", samples, rate_hz))
    assert rate == expected_hz
    assert abs(len(decoded) - expected_hz) <= expected_hz // 1000
    loud = np.flatnonzero(abs(decoded) > 8000)
    assert abs(loud[0] / expected_hz - 0.25) < 0.005


def test_stereo_is_mixed_down(tmp_path: Path) -> None:
    left, right = beeps(1.0, (0.25,)), beeps(1.0, (0.5,))
    _, decoded = decode(write_wav(tmp_path / "a.wav", np.stack([left, right], axis=1)))
    assert len(decoded) == 16000
    assert abs(decoded[4000:6000]).max() > 5000
    assert abs(decoded[8000:10000]).max() > 5000


@pytest.mark.parametrize(
    ("name", "codec", "with_video"),
    [
        *(("a.mp3", "libmp3lame", False), ("a.ogg", "libopus", False), ("a.flac", "flac", False)),
        *(("a.m4a", "aac", False), ("a.mp4", "aac", True), ("a.mkv", "pcm_s16le", True)),
    ],
)
def test_what_ffmpeg_reads(tmp_path: Path, name: str, codec: str, with_video: bool) -> None:
    path = encode(tmp_path / name, beeps(2.0, (1.0,), 48000), 48000, codec, with_video)
    rate, decoded = decode(path)
    assert rate == 48000
    assert abs(len(decoded) / rate - 2.0) < 0.06
    loud = np.flatnonzero(abs(decoded) > 8000)
    assert abs(loud[0] / rate - 1.0) < 0.04


async def test_async_and_in_small_pieces(tmp_path: Path) -> None:
    samples = beeps(5.0, (1.0,))
    with AudioFile(write_wav(tmp_path / "a.wav", samples)) as file:
        assert file.duration_s == pytest.approx(5.0)
        pieces = [piece async for piece in file]
    assert b"".join(pieces) == samples.tobytes()
    assert max(map(len, pieces)) < 16000


async def test_closing_while_a_thread_decodes(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp3", beeps(60.0, (1.0,), 48000), 48000, "libmp3lame")
    for delay_s in (0, 0.001, 0.003, 0.01):
        with AudioFile(path) as file:

            async def read(file: AudioFile = file) -> None:
                async for _ in file:
                    pass

            task = asyncio.create_task(read())
            await asyncio.sleep(delay_s)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(UnreadableInput, match="No such file"):
        AudioFile(tmp_path / "none.wav")


@pytest.mark.parametrize("content", [b"", b"hello, this is text", bytes(5000)])
def test_not_a_media_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    with pytest.raises(UnreadableInput, match=r"a\.wav"):
        AudioFile(path)


def test_folder(tmp_path: Path) -> None:
    with pytest.raises(UnreadableInput):
        AudioFile(tmp_path)


def test_picture_has_no_audio(tmp_path: Path) -> None:
    output = io.BytesIO()
    with av.open(output, "w", format="mjpeg") as container:
        stream = container.add_stream("mjpeg", rate=1)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuvj420p"
        container.mux(stream.encode(av.VideoFrame(64, 64, "yuv420p")))
        container.mux(stream.encode(None))
    path = tmp_path / "a.jpg"
    path.write_bytes(output.getvalue())
    with pytest.raises(UnreadableInput, match="no audio"):
        AudioFile(path)


def test_empty_track(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "a.wav", np.zeros(0, np.int16))
    with AudioFile(path) as file, pytest.raises(UnreadableInput, match="is empty"):
        list(file)


def test_truncated_file_gives_what_is_there(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "a.wav", beeps(2.0, (1.0,)))
    path.write_bytes(path.read_bytes()[:32044])
    _, decoded = decode(path)
    assert len(decoded) == 16000


def test_damaged_packets_are_left_out(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp3", beeps(3.0, (1.0,), 48000), 48000, "libmp3lame")
    content = bytearray(path.read_bytes())
    content[10_000:11_000] = bytes(1000)
    path.write_bytes(content)
    _, decoded = decode(path)
    assert len(decoded) > 2 * 48000
