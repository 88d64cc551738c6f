"""Speech made for the tests: silence with short loud tones at known times."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np

BEEP_S = 0.125


def beeps(duration_s: float, at_s: tuple[float, ...], rate_hz: int = 16000) -> np.ndarray:
    """Mono int16 samples."""
    samples = np.zeros(round(duration_s * rate_hz), np.int16)
    tone = 0.6 * 32767 * np.sin(2 * np.pi * 440 * np.arange(round(BEEP_S * rate_hz)) / rate_hz)
    for start_s in at_s:
        start = round(start_s * rate_hz)
        part = samples[start : start + len(tone)]
        part[:] = tone[: len(part)]
    return samples


def write_wav(path: Path, samples: np.ndarray, rate_hz: int = 16000) -> Path:
    """A WAV file of int16 samples `[N]` or `[N, 2]`."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1 if samples.ndim == 1 else samples.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(samples.astype("<i2").tobytes())
    return path
