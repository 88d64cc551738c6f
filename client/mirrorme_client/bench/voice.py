"""Speech to bench with: of a file, or made up. What is said does not change what it costs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from mirrorme.animate.v1 import animation_pb2 as pb

from mirrorme_client.audio_file import AudioFile
from mirrorme_client.formats import bytes_per_sample, pcm_s16le

_RATE_HZ = 16_000
_MADE_UP_S = 8
_PITCH_HZ = 120
_SYLLABLES_HZ = 4


@dataclass(frozen=True)
class Voice:
    """Speech without an end: its data over and over."""

    format: pb.AudioFormat
    data: bytes

    @classmethod
    def of_file(cls, path: Path) -> Voice:
        """The speech of an audio or video file.

        Raises:
            UnreadableInput: it cannot be read, or holds no audio.
        """
        with AudioFile(path) as file:
            return cls(file.format, b"".join(file))

    @classmethod
    def made_up(cls) -> Voice:
        """A buzz with the rhythm of syllables."""
        time_s = np.arange(_MADE_UP_S * _RATE_HZ) / _RATE_HZ
        loudness = np.sin(np.pi * _SYLLABLES_HZ * time_s) ** 2
        buzz = sum(np.sin(2 * np.pi * _PITCH_HZ * n * time_s) / n for n in range(1, 20))
        samples = 8000 * loudness * buzz
        return cls(pcm_s16le(_RATE_HZ), samples.astype("<i2").tobytes())

    def piece(self, start_s: float, stop_s: float) -> bytes:
        """What is said from one time to the other."""
        size = bytes_per_sample(self.format)
        first, last = (round(s * self.format.sample_rate_hz) * size for s in (start_s, stop_s))
        num_left, pieces = last - first, []
        while num_left:
            at = (last - num_left) % len(self.data)
            pieces.append(self.data[at : at + num_left])
            num_left -= len(pieces[-1])
        return b"".join(pieces)

    def silence(self, start_s: float, stop_s: float) -> bytes:
        """As long as `piece`, without a sound."""
        return bytes(len(self.piece(start_s, stop_s)))
