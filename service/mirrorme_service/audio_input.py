"""Raw PCM bytes, cut anywhere, to the session's samples: mono float32 at 16 kHz in [-1, 1].

The samples depend on the bytes alone, never on how they were cut: bytes of an unfinished sample are
kept, and resampling works on blocks of fixed length. Resampled by libswresample, which holds back
2 ms of audio beyond the unfinished block; soxr was measured to hold back 37 ms (from 48 kHz) to
113 ms (from 8 kHz), which would add to the latency of every frame.
"""

from __future__ import annotations

import math
from typing import Any

import av
import numpy as np
from mirrorme.animate.v1 import animation_pb2 as pb
from numpy.typing import NDArray

from mirrorme_service.errors import InvalidRequest

SAMPLE_RATE_HZ = 16_000
MIN_SAMPLE_RATE_HZ = 8_000
MAX_SAMPLE_RATE_HZ = 48_000
MAX_CHANNELS = 2
ENCODINGS: tuple[pb.AudioEncoding, ...] = (
    pb.AUDIO_ENCODING_PCM_S16LE,
    pb.AUDIO_ENCODING_PCM_F32LE,
)

# Float audio may overshoot a little and is clipped. Values this large are integers in disguise
# (16-bit samples without the division by 32768), which would be heard as noise.
_ABSURD = 64.0
_BLOCKS_PER_S = 100
# More than the filter looks back.
_MEMORY_BLOCKS = 4
_S16_SCALE = np.float32(1 / 32768)

Samples = NDArray[np.float32]
"""[N]"""


def resolve_audio_format(audio_format: pb.AudioFormat, *, field: str) -> pb.AudioFormat:
    """The format in force, with the number of channels filled in.

    Raises:
        InvalidRequest: AUDIO_ENCODING_UNSUPPORTED, AUDIO_RATE_UNSUPPORTED,
            AUDIO_CHANNELS_UNSUPPORTED
    """
    if audio_format.encoding not in ENCODINGS:
        raise InvalidRequest(
            "AUDIO_ENCODING_UNSUPPORTED",
            f"audio encoding {audio_format.encoding} is not served: want one of "
            + ", ".join(pb.AudioEncoding.Name(encoding) for encoding in ENCODINGS),
            field=f"{field}.encoding",
            got=audio_format.encoding,
            expected="AUDIO_ENCODING_PCM_S16LE or AUDIO_ENCODING_PCM_F32LE",
        )
    if not MIN_SAMPLE_RATE_HZ <= audio_format.sample_rate_hz <= MAX_SAMPLE_RATE_HZ:
        raise InvalidRequest(
            "AUDIO_RATE_UNSUPPORTED",
            f"the audio's sample rate is {audio_format.sample_rate_hz} Hz: want "
            f"{MIN_SAMPLE_RATE_HZ} to {MAX_SAMPLE_RATE_HZ}",
            field=f"{field}.sample_rate_hz",
            got=audio_format.sample_rate_hz,
            expected=f"{MIN_SAMPLE_RATE_HZ}..{MAX_SAMPLE_RATE_HZ}",
        )
    if audio_format.num_channels > MAX_CHANNELS:
        raise InvalidRequest(
            "AUDIO_CHANNELS_UNSUPPORTED",
            f"the audio has {audio_format.num_channels} channels: want 1 (mono) or 2 (stereo)",
            field=f"{field}.num_channels",
            got=audio_format.num_channels,
            expected="1 or 2",
        )
    return pb.AudioFormat(
        encoding=audio_format.encoding,
        sample_rate_hz=audio_format.sample_rate_hz,
        num_channels=audio_format.num_channels or 1,
    )


class AudioInput:
    """The audio of one session, from bytes to samples.

    `push` as bytes arrive, `flush` at the end of an utterance or of the session, which gives what
    was held back; then `push` may go on. After every flush the samples given so far are exactly
    round(received · 16000 / rate), so nothing drifts however many utterances there are.

    Args:
        audio_format: as `resolve_audio_format` returns it.
        field: the request's field that holds the bytes, for errors.
    """

    def __init__(self, audio_format: pb.AudioFormat, *, field: str = "audio.data") -> None:
        self._rate_hz = audio_format.sample_rate_hz
        self._num_channels = audio_format.num_channels
        is_float = audio_format.encoding == pb.AUDIO_ENCODING_PCM_F32LE
        self._type = np.dtype("<f4" if is_float else "<i2")
        self._field = field
        self._partial = b""
        self._resampler = None if self._rate_hz == SAMPLE_RATE_HZ else _Resampler(self._rate_hz)
        self.num_received = 0
        """Samples received, at the client's rate, a stereo pair counted once."""
        self.num_samples = 0
        """Samples given out, at 16 kHz."""

    def push(self, data: bytes) -> Samples:
        """Takes bytes cut anywhere; gives the samples that they complete, often none.

        Raises:
            InvalidRequest: AUDIO_NOT_FINITE, AUDIO_OUT_OF_SCALE. No use after that.
        """
        data = self._partial + data if self._partial else data
        sample_bytes = self._type.itemsize * self._num_channels
        num_whole = len(data) // sample_bytes
        self._partial = data[num_whole * sample_bytes :]
        values = np.frombuffer(data, self._type, num_whole * self._num_channels)
        mono = self._to_mono(values.reshape(num_whole, self._num_channels))
        self.num_received += num_whole
        samples = mono if self._resampler is None else self._resampler.push(mono)
        return self._given(samples)

    def flush(self) -> Samples:
        """Gives what is held back.

        Raises:
            InvalidRequest: AUDIO_TRUNCATED_SAMPLE: the last bytes do not make a whole sample.
        """
        if self._partial:
            sample_bytes = self._type.itemsize * self._num_channels
            raise InvalidRequest(
                "AUDIO_TRUNCATED_SAMPLE",
                f"the audio ends within a sample: {len(self._partial)} of {sample_bytes} bytes "
                f"after {self.num_received} samples; check encoding and number of channels",
                field=self._field,
                got=f"{len(self._partial)} bytes over",
                expected=f"a multiple of {sample_bytes} bytes",
            )
        if self._resampler is None:
            return self._given(np.zeros(0, np.float32))
        due = (2 * self.num_received * SAMPLE_RATE_HZ + self._rate_hz) // (2 * self._rate_hz)
        return self._given(self._resampler.flush(due - self.num_samples))

    def restart(self) -> None:
        """Forgets what is held back, also a part of a sample: other audio follows."""
        self._partial = b""
        self.num_received = self.num_samples = 0
        if self._resampler is not None:
            self._resampler = _Resampler(self._rate_hz)

    def to_record(self) -> Any:
        """What is held back, for `restore` of another one of the same format."""
        resampler = self._resampler and self._resampler.to_record()
        return self._partial, self.num_received, self.num_samples, resampler

    def restore(self, record: Any) -> None:
        """Goes on where the other one was."""
        self._partial, self.num_received, self.num_samples, resampler = record
        if self._resampler is not None:
            self._resampler.restore(resampler)

    def _given(self, samples: Samples) -> Samples:
        self.num_samples += len(samples)
        return samples

    def _to_mono(self, values: NDArray[np.generic]) -> Samples:
        """Checked, scaled and mixed down: [N, channels] of the client's type to [N]."""
        if self._type.kind == "i":
            samples = values.astype(np.float32) * _S16_SCALE
        else:
            self._check_float(values)
            samples = np.clip(values.astype(np.float32), -1, 1)
        if self._num_channels == 1:
            return samples[:, 0]
        return (samples[:, 0] + samples[:, 1]) * np.float32(0.5)

    def _check_float(self, values: NDArray[np.generic]) -> None:
        in_scale = np.abs(values) <= _ABSURD  # False for NaN as well
        if in_scale.all():
            return
        row, channel = (int(i) for i in np.argwhere(~in_scale)[0])
        value, index = float(values[row, channel]), self.num_received + row
        finite = np.isfinite(value)
        raise InvalidRequest(
            "AUDIO_OUT_OF_SCALE" if finite else "AUDIO_NOT_FINITE",
            f"audio sample {index} of channel {channel} is {value:g}: want numbers in [-1, 1]"
            + ("; divide 16-bit integers by 32768" if finite else ""),
            field=self._field,
            got=f"{value:g} at sample {index}",
            expected="-1..1",
        )


class _Resampler:
    """Mono float32 at one rate to 16 kHz, in blocks of 10 ms counted from the last flush."""

    def __init__(self, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self._block_samples = rate_hz // _BLOCKS_PER_S
        self._cycle_samples = rate_hz // math.gcd(rate_hz, SAMPLE_RATE_HZ)
        """After so many samples the filter stands between two samples as it did before."""
        self._start()

    def _start(self) -> None:
        self._waiting = np.zeros(0, np.float32)
        self._recent = np.zeros(0, np.float32)
        """The last samples that were resampled, from a cycle's start."""
        self._swr = av.AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE_HZ)

    def push(self, samples: Samples) -> Samples:
        """Gives what complete blocks make."""
        samples = np.concatenate([self._waiting, samples])
        num_whole = len(samples) // self._block_samples * self._block_samples
        self._waiting = samples[num_whole:].copy()
        blocks = np.split(
            samples[:num_whole], range(self._block_samples, num_whole, self._block_samples)
        )
        self._remember(samples[:num_whole])
        return _joined([self._resampled(block) for block in blocks if len(block)])

    def flush(self, num_due: int) -> Samples:
        """Gives the rest as exactly this many samples, and starts anew."""
        rest = []
        if len(self._waiting):
            rest.append(self._resampled(self._waiting))
        rest.extend(frame.to_ndarray()[0] for frame in self._swr.resample(None))
        samples = _joined(rest)[:num_due]
        self._start()
        return np.pad(samples, (0, num_due - len(samples)))

    def to_record(self) -> Any:
        """See `AudioInput`. The filter's state is what it was last given."""
        return self._recent, self._waiting

    def restore(self, record: Any) -> None:
        """See `AudioInput`."""
        self._start()
        self._recent, self._waiting = record
        if len(self._recent):
            self._resampled(self._recent)

    def _remember(self, samples: Samples) -> None:
        self._recent = np.concatenate([self._recent, samples])
        num_past = len(self._recent) - _MEMORY_BLOCKS * self._block_samples
        if num_past > 0:
            self._recent = self._recent[num_past // self._cycle_samples * self._cycle_samples :]

    def _resampled(self, block: Samples) -> Samples:
        frame = av.AudioFrame.from_ndarray(block[None], format="flt", layout="mono")
        frame.sample_rate = self._rate_hz
        return _joined([made.to_ndarray()[0] for made in self._swr.resample(frame)])


def _joined(parts: list[Samples]) -> Samples:
    """One array in [-1, 1]; filters overshoot."""
    if not parts:
        return np.zeros(0, np.float32)
    return np.clip(np.concatenate(parts), -1, 1)
