"""Whether this mouth says what is heard: voice activity, level, and the mouth against the voice."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import signal

from mirrorme_training.motion_noise import FRAME_RATE
from mirrorme_training.speech import SAMPLE_RATE_HZ

if TYPE_CHECKING:
    from silero_vad.utils_vad import OnnxWrapper

Curve = NDArray[np.float64]

_VOICE_HZ = (150, 3800)
_SYLLABLES_HZ = (0.7, 6.0)
_LEVEL_FLOOR = 3e-3
_LAGS_FRAMES = 12
_CHANCE_FRAMES = 24
"""Shifts from here on say what chance gives."""
_VAD_SAMPLES = 512
_FULL_SCALE = 32768.0


@dataclass(frozen=True)
class Sync:
    """How the mouth follows the voice."""

    lag_frames: int
    """Where the correlation is greatest; positive: the picture is late."""
    r: float
    """The correlation there."""
    r_near: float
    """The greatest one within the lag that is tolerated."""
    height: float
    """`r` in deviations of what chance gives."""


@dataclass(frozen=True)
class Voice:
    """A video's sound, frame by frame."""

    speech: Curve
    """[T] probability that somebody speaks (Silero VAD)"""
    level: Curve
    """[T] of the voice's band, 0 to 1, root mean square"""


def _voice_detector() -> OnnxWrapper:
    """Silero's; importing it sets torch to one thread, which is not for it to choose."""
    threads = torch.get_num_threads()
    # It runs on ONNX Runtime, whose wheels report to their maker unless told otherwise.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    from silero_vad import load_silero_vad

    torch.set_num_threads(threads)
    return load_silero_vad(onnx=True)  # pyright: ignore[reportReturnType]


def measure_voice(samples: NDArray[np.int16], num_frames: int) -> Voice:
    """Of 16 kHz sound; silence where it is shorter than the pictures."""
    num_samples = num_frames * SAMPLE_RATE_HZ // FRAME_RATE
    sound = np.zeros(max(num_samples, _VAD_SAMPLES), np.float32)
    heard = samples[: len(sound)]
    sound[: len(heard)] = heard / _FULL_SCALE
    model = _voice_detector()
    with torch.inference_mode():
        waves = torch.from_numpy(sound)[None]
        chances = model.audio_forward(waves, SAMPLE_RATE_HZ)[0].numpy()  # pyright: ignore[reportArgumentType]
    middles = (np.arange(num_frames) + 0.5) * SAMPLE_RATE_HZ / FRAME_RATE
    at = np.minimum(middles // _VAD_SAMPLES, len(chances) - 1).astype(int)
    band = signal.butter(4, _VOICE_HZ, "band", fs=SAMPLE_RATE_HZ, output="sos")
    voice = signal.sosfilt(band, sound)
    power = np.concatenate([[0.0], np.cumsum(np.square(voice))])
    edges = np.arange(num_frames + 1) * SAMPLE_RATE_HZ // FRAME_RATE
    level = np.sqrt(np.maximum(np.diff(power[edges]) / np.diff(edges), 0))
    return Voice(chances[at].astype(np.float64), level)


def voice_over_noise_db(level: Curve) -> float:
    """Loud moments over quiet ones: speech has gaps between syllables, music fills them."""
    decibels = 20 * np.log10(level + 1e-5)
    return float(np.subtract(*np.percentile(decibels, [80, 10])))


def measure_sync(opening: Curve, level: Curve, max_lag_frames: int) -> Sync:
    """Correlates opening with level and the lips' speed with level, and takes the mean.

    Args:
        opening: [T] of the mouth, without gaps.
        level: [T] of the same frames' voice.
    """
    loudness = np.log10(level + _LEVEL_FLOOR)
    band = signal.butter(2, _SYLLABLES_HZ, "band", fs=FRAME_RATE, output="sos")
    pairs = (
        (signal.sosfiltfilt(band, opening), signal.sosfiltfilt(band, loudness)),
        (np.abs(np.gradient(opening)), loudness),
    )
    by_shift = np.mean([_circular(mouth, voice) for mouth, voice in pairs], axis=0)
    shifts = np.arange(len(by_shift))
    shifts = np.where(shifts > len(shifts) // 2, shifts - len(shifts), shifts)
    chance = by_shift[np.abs(shifts) >= _CHANCE_FRAMES]
    near = np.abs(shifts) <= _LAGS_FRAMES
    best = int(np.argmax(np.where(near, by_shift, -np.inf)))
    tolerated = by_shift[np.abs(shifts) <= max_lag_frames]
    deviation = float(chance.std()) if len(chance) else np.inf
    return Sync(
        lag_frames=int(shifts[best]),
        r=float(by_shift[best]),
        r_near=float(tolerated.max()),
        height=float((by_shift[best] - chance.mean()) / deviation) if deviation > 0 else 0.0,
    )


def _circular(a: Curve, b: Curve) -> Curve:
    """Correlation for every shift of `a` against `b`, ends joined."""
    a, b = a - a.mean(), b - b.mean()
    scale = np.linalg.norm(a) * np.linalg.norm(b)
    if scale < 1e-12:
        return np.zeros(len(a))
    return np.fft.irfft(np.fft.rfft(a) * np.conj(np.fft.rfft(b)), len(a)) / scale
