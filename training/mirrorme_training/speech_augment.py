"""Makes synthetic voices sound like many people, rooms, microphones and lines.

Everything keeps its place in time but `warp`, which says by how much it changed the time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import soxr
from numpy.typing import NDArray
from scipy import signal

from mirrorme_training.speech import SAMPLE_RATE_HZ, Phone, Speech

Samples = NDArray[np.floating]


def warp(speech: Speech, factor: float) -> Speech:
    """Another vocal tract: pitch and formants higher and all faster by `factor`; phones follow."""
    rate = speech.sample_rate_hz
    samples = soxr.resample(speech.samples, rate * factor, rate)
    phones = tuple(Phone(p.name, p.start_s / factor, p.end_s / factor) for p in speech.phones)
    return replace(speech, samples=samples, phones=phones)


@dataclass(frozen=True)
class AugmentConfig:
    """How likely each step is, and how far it goes."""

    equalise: float = 0.6
    room: float = 0.45
    noise: float = 0.6
    line: float = 0.25
    clip: float = 0.15
    min_snr_db: float = 8.0
    max_snr_db: float = 40.0
    min_level_db: float = -36.0
    """Loudness of the speech, dB below full scale (root mean square)."""
    max_level_db: float = -14.0


def augment(
    samples: NDArray[np.float32], random: np.random.Generator, config: AugmentConfig
) -> NDArray[np.float32]:
    """Draws a microphone, a room, a noise, a line and a level for 16 kHz speech `[N]`."""
    result = samples
    if random.random() < config.equalise:
        result = _equalise(result, random)
    if random.random() < config.room:
        result = _room(result, random)
    result = _level(result, samples, -20.0)
    if random.random() < config.noise:
        snr_db = random.uniform(config.min_snr_db, config.max_snr_db)
        result = result + _noise(len(result), random) * 10 ** ((-20.0 - snr_db) / 20)
    if random.random() < config.line:
        result = _line(result, random)
    if random.random() < config.clip:
        limit = float(np.abs(result).max() + 1e-6) * random.uniform(0.35, 0.8)
        result = limit * np.tanh(result / limit)
    level_db = random.uniform(config.min_level_db, config.max_level_db)
    return _level(result, samples, level_db).clip(-1, 1).astype(np.float32)


def _level(samples: Samples, speech: Samples, level_db: float) -> Samples:
    """Scales so that the parts where there is speech have this level."""
    loud = np.abs(speech) > 0.05 * (np.abs(speech).max() + 1e-9)
    if not loud.any():
        return samples
    rms = float(np.sqrt(np.mean(samples[loud] ** 2))) + 1e-9
    return samples * np.float32(10 ** (level_db / 20) / rms)


def _equalise(samples: Samples, random: np.random.Generator) -> Samples:
    for _ in range(int(random.integers(1, 4))):
        centre = float(np.exp(random.uniform(np.log(120), np.log(6000))))
        gain = 10 ** (random.uniform(-9, 9) / 20)
        b, a = signal.iirpeak(centre, random.uniform(0.6, 2.0), fs=SAMPLE_RATE_HZ)
        samples = samples + (gain - 1) * np.asarray(signal.lfilter(b, a, samples))
    return samples


def _room(samples: Samples, random: np.random.Generator) -> Samples:
    """Direct sound, a few reflections and a tail that decays as noise."""
    decay_s = random.uniform(0.08, 0.6)
    time_s = np.arange(int(decay_s * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    tail = random.standard_normal(len(time_s)) * np.exp(-6.9 * time_s / decay_s)
    tail[: int(0.004 * SAMPLE_RATE_HZ)] = 0
    tail *= random.uniform(0.1, 0.7) / (np.sqrt((tail**2).sum()) + 1e-9)
    tail[0] = 1.0
    for _ in range(4):
        tail[int(random.integers(40, max(41, len(tail) // 3)))] += random.uniform(-0.3, 0.3)
    return signal.fftconvolve(samples, tail)[: len(samples)]


def _noise(count: int, random: np.random.Generator) -> Samples:
    """Noise of a random colour, sometimes with hum or slow swells, root mean square 1."""
    spectrum = np.fft.rfft(random.standard_normal(count))
    frequency = np.fft.rfftfreq(count, 1 / SAMPLE_RATE_HZ) + 20.0
    noise = np.fft.irfft(spectrum * frequency ** -random.uniform(0.0, 1.2), count)
    noise /= noise.std() + 1e-9
    time_s = np.arange(count) / SAMPLE_RATE_HZ
    if random.random() < 0.2:
        hum_hz = float(random.choice([50.0, 60.0]))
        hum = sum(np.sin(2 * np.pi * hum_hz * k * time_s + k) / k for k in range(1, 6))
        noise = noise + random.uniform(0.2, 1.0) * hum
    if random.random() < 0.4:
        swell = np.sin(2 * np.pi * random.uniform(0.1, 1.5) * time_s + random.uniform(0, 6.28))
        noise = noise * (1 + 0.6 * swell)
    return noise / (noise.std() + 1e-9)


def _line(samples: Samples, random: np.random.Generator) -> Samples:
    """Band limits of telephones and codecs, and coarse companded samples; no delay."""
    low = random.uniform(60, 350)
    high = random.choice([3400.0, 4000.0, 5500.0, 7200.0])
    band = signal.butter(4, [low, high], "bandpass", fs=SAMPLE_RATE_HZ, output="sos")
    samples = np.asarray(signal.sosfilt(band, samples))
    if random.random() < 0.5:
        peak = float(np.abs(samples).max()) + 1e-6
        mu = 255.0
        packed = np.sign(samples) * np.log1p(mu * np.abs(samples) / peak) / np.log1p(mu)
        packed = np.round(packed * 127) / 127
        samples = np.sign(packed) * peak * np.expm1(np.abs(packed) * np.log1p(mu)) / mu
    return samples
