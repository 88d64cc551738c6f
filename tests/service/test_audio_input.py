"""Audio bytes to samples: any cut gives the same samples, aligned, of exact length."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mirrorme.animate.v1 import animation_pb2 as pb
from mirrorme_service.audio_input import AudioInput, resolve_audio_format
from mirrorme_service.errors import InvalidRequest

S16 = pb.AUDIO_ENCODING_PCM_S16LE
F32 = pb.AUDIO_ENCODING_PCM_F32LE
RATES = (8000, 11025, 16000, 16001, 22050, 24000, 32000, 44100, 47999, 48000)


def audio_input(encoding=S16, rate=16000, channels=1) -> AudioInput:
    return AudioInput(pb.AudioFormat(encoding=encoding, sample_rate_hz=rate, num_channels=channels))


def run(audio: AudioInput, data: bytes, cuts: list[int]) -> np.ndarray:
    """Pushes the data in pieces of these lengths, again and again, then flushes."""
    parts, at, turn = [], 0, 0
    while at < len(data):
        length = cuts[turn % len(cuts)]
        parts.append(audio.push(data[at : at + length]))
        at, turn = at + length, turn + 1
    return np.concatenate([*parts, audio.flush()])


def noise(num_samples: int, channels: int = 1) -> np.ndarray:
    rng = np.random.default_rng(num_samples)
    return (rng.standard_normal((num_samples, channels)) * 0.3).astype(np.float32)


def to_bytes(samples: np.ndarray, encoding: int) -> bytes:
    if encoding == F32:
        return samples.astype("<f4").tobytes()
    return np.clip(np.rint(samples * 32768), -32768, 32767).astype("<i2").tobytes()


@settings(max_examples=60, deadline=None)
@given(
    rate=st.sampled_from(RATES),
    encoding=st.sampled_from([S16, F32]),
    channels=st.sampled_from([1, 2]),
    num_samples=st.integers(0, 5000),
    cuts=st.lists(st.integers(1, 3000), min_size=1, max_size=8),
)
def test_any_cut_gives_the_same_samples(rate, encoding, channels, num_samples, cuts) -> None:
    data = to_bytes(noise(num_samples, channels), encoding)
    whole = run(audio_input(encoding, rate, channels), data, [max(1, len(data))])
    pieces = run(audio_input(encoding, rate, channels), data, cuts)
    assert whole.dtype == np.float32
    assert whole.tobytes() == pieces.tobytes()
    assert len(whole) == int(num_samples * 16000 / rate + 0.5)
    assert np.abs(whole).max(initial=0) <= 1


@pytest.mark.parametrize("rate", [8000, 44100, 47999])
def test_single_bytes_give_the_same_samples(rate) -> None:
    data = to_bytes(noise(rate // 10, 2), S16)
    whole = run(audio_input(S16, rate, 2), data, [len(data)])
    assert run(audio_input(S16, rate, 2), data, [1]).tobytes() == whole.tobytes()


def test_16_khz_mono_passes_bit_exactly() -> None:
    levels = np.arange(-32768, 32768, dtype="<i2")
    samples = run(audio_input(S16), levels.tobytes(), [1001])
    assert np.array_equal(samples, levels / np.float64(32768))
    assert np.array_equal(np.rint(samples * 32768).astype(np.int32), levels)
    floats = noise(4000).clip(-1, 1)
    assert run(audio_input(F32), floats.tobytes(), [333]).tobytes() == floats.tobytes()


def test_samples_come_as_soon_as_they_are_whole_at_16_khz() -> None:
    audio = audio_input(S16)
    assert len(audio.push(b"\x00")) == 0
    assert len(audio.push(b"\x40\x00")) == 1
    assert len(audio.push(b"\x40")) == 1
    assert (audio.num_received, audio.num_samples) == (2, 2)


def test_stereo_is_mixed_down() -> None:
    stereo = np.array([[1.0, 0.0], [-0.5, 0.25], [0.5, -0.5]], "<f4")
    samples = run(audio_input(F32, channels=2), stereo.tobytes(), [5])
    assert samples.tolist() == [0.5, -0.125, 0.0]


@pytest.mark.parametrize("rate", [rate for rate in RATES if rate != 16000])
def test_resampled_audio_is_aligned_and_clean(rate) -> None:
    seconds = np.arange(rate) / rate
    tone = (0.5 * np.sin(2 * np.pi * 997 * seconds)).astype(np.float32)
    samples = run(audio_input(F32, rate), tone.tobytes(), [4096])
    ideal = 0.5 * np.sin(2 * np.pi * 997 * np.arange(16000) / 16000)
    middle = slice(200, -200)
    error = np.std(samples[middle] - ideal[middle]) / np.std(ideal)
    assert error < 1e-3  # an offset of one sample would be 0.4


@pytest.mark.parametrize(("rate", "frequency"), [(48000, 9500), (44100, 12000), (24000, 10000)])
def test_what_16_khz_cannot_hold_does_not_fold_back(rate, frequency) -> None:
    tone = np.sin(2 * np.pi * frequency * np.arange(rate) / rate).astype(np.float32)
    samples = run(audio_input(F32, rate), tone.tobytes(), [4096])
    assert np.abs(samples[200:-200]).max() < 1e-2


@pytest.mark.parametrize("rate", [8000, 44100, 48000])
def test_little_is_held_back(rate) -> None:
    audio = audio_input(S16, rate)
    block = bytes(2 * (rate // 100))
    for num_blocks in range(1, 50):
        audio.push(block)
        missing_s = num_blocks / 100 - audio.num_samples / 16000
        assert missing_s < 0.004


def test_utterances_do_not_drift() -> None:
    audio = audio_input(S16, 44100)
    for num_utterances in range(1, 60):
        audio.push(bytes(2 * 1501))
        audio.flush()
        assert audio.num_samples == int(num_utterances * 1501 * 16000 / 44100 + 0.5)


def test_an_utterance_does_not_leak_into_the_next() -> None:
    audio = audio_input(F32, 48000)
    audio.push(np.ones(1000, "<f4").tobytes())
    audio.flush()
    samples = np.concatenate([audio.push(np.zeros(4800, "<f4").tobytes()), audio.flush()])
    assert not samples.any()


def test_ten_minutes_have_exactly_their_samples() -> None:
    audio = audio_input(S16, 44100)
    ten_seconds = bytes(2 * 441_000)
    for _ in range(60):
        audio.push(ten_seconds)
    audio.flush()
    assert audio.num_samples == 600 * 16000


def test_float_overshoot_is_clipped() -> None:
    samples = run(audio_input(F32), np.array([1.5, -3.0, 64.0, 0.5], "<f4").tobytes(), [3])
    assert samples.tolist() == [1.0, -1.0, 1.0, 0.5]


@pytest.mark.parametrize(
    ("value", "reason", "got"),
    [
        (np.nan, "AUDIO_NOT_FINITE", "nan at sample 7"),
        (np.inf, "AUDIO_NOT_FINITE", "inf at sample 7"),
        (-np.inf, "AUDIO_NOT_FINITE", "-inf at sample 7"),
        (-12000.0, "AUDIO_OUT_OF_SCALE", "-12000 at sample 7"),
    ],
)
def test_impossible_values_are_refused_with_their_sample(value, reason, got) -> None:
    stereo = np.zeros((10, 2), "<f4")
    stereo[7, 1] = value
    audio = audio_input(F32, 48000, 2)
    audio.push(stereo[:5].tobytes())
    with pytest.raises(InvalidRequest) as caught:
        audio.push(stereo[5:].tobytes())
    assert (caught.value.reason, caught.value.got) == (reason, got)
    assert caught.value.field == "audio.data"


def test_every_f32_bit_pattern_is_taken_or_refused() -> None:
    rng = np.random.default_rng(5)
    for pattern in rng.integers(0, 2**32, 500, dtype=np.uint32):
        audio = audio_input(F32)
        try:
            samples = audio.push(pattern.tobytes())
        except InvalidRequest:
            continue
        assert np.abs(samples).max() <= 1


@pytest.mark.parametrize(
    ("encoding", "channels", "num_bytes"), [(S16, 1, 7), (S16, 2, 10), (F32, 1, 9), (F32, 2, 12)]
)
def test_an_end_within_a_sample_is_refused(encoding, channels, num_bytes) -> None:
    audio = audio_input(encoding, 16000, channels)
    audio.push(bytes(num_bytes))
    with pytest.raises(InvalidRequest) as caught:
        audio.flush()
    assert caught.value.reason == "AUDIO_TRUNCATED_SAMPLE"


@pytest.mark.parametrize(
    ("wrong", "reason", "field"),
    [
        ({"encoding": 0}, "AUDIO_ENCODING_UNSUPPORTED", "encoding"),
        ({"encoding": 9}, "AUDIO_ENCODING_UNSUPPORTED", "encoding"),
        ({"sample_rate_hz": 0}, "AUDIO_RATE_UNSUPPORTED", "sample_rate_hz"),
        ({"sample_rate_hz": 7999}, "AUDIO_RATE_UNSUPPORTED", "sample_rate_hz"),
        ({"sample_rate_hz": 48001}, "AUDIO_RATE_UNSUPPORTED", "sample_rate_hz"),
        ({"num_channels": 3}, "AUDIO_CHANNELS_UNSUPPORTED", "num_channels"),
    ],
)
def test_formats_that_are_not_served_are_refused(wrong, reason, field) -> None:
    right = {"encoding": S16, "sample_rate_hz": 16000, "num_channels": 1}
    with pytest.raises(InvalidRequest) as caught:
        resolve_audio_format(pb.AudioFormat(**(right | wrong)), field="config.audio_format")
    assert caught.value.reason == reason
    assert caught.value.field == f"config.audio_format.{field}"


def test_mono_is_the_default() -> None:
    audio_format = pb.AudioFormat(encoding=F32, sample_rate_hz=8000)
    assert resolve_audio_format(audio_format, field="x").num_channels == 1
