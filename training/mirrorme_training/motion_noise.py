"""Smooth random movement: filtered noise, blinks and holds, at the frame rate."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import signal

FRAME_RATE = 24
Curve = NDArray[np.float64]
_WARM_UP_FRAMES = 240


def drift(num_frames: int, cutoff_hz: float, random: np.random.Generator) -> Curve:
    """Noise below a frequency, variance about 1, `[T]`."""
    noise = random.standard_normal(num_frames + _WARM_UP_FRAMES)
    low = signal.butter(2, cutoff_hz, fs=FRAME_RATE, output="sos")
    # A low-pass keeps cutoff / (rate / 2) of white noise's power, 1.11 times that for this order.
    scale = np.sqrt(FRAME_RATE / 2 / cutoff_hz / 1.11)
    return signal.sosfilt(low, noise)[_WARM_UP_FRAMES:] * scale


def smooth(curve: Curve, cutoff_hz: float) -> Curve:
    """A curve without its fast parts and without delay, `[T]` or `[T, C]`."""
    low = signal.butter(2, cutoff_hz, fs=FRAME_RATE, output="sos")
    pad = min(len(curve) - 1, 2 * FRAME_RATE)
    return signal.sosfiltfilt(low, curve, axis=0, padlen=pad)


def blinks(num_frames: int, random: np.random.Generator, mean_gap_s: float = 3.6) -> Curve:
    """How far the eyes are closed, 0 to 1: quick down, slower up, sometimes twice."""
    closed = np.zeros(num_frames)
    frame = random.uniform(0.2, 1.0) * mean_gap_s * FRAME_RATE
    profile = np.array([0.45, 1.0, 1.0, 0.65, 0.3, 0.1])
    while frame < num_frames:
        first = int(frame)
        part = profile[: num_frames - first]
        closed[first : first + len(part)] = np.maximum(closed[first : first + len(part)], part)
        gap_s = 0.35 if random.random() < 0.12 else 0.8 + random.gamma(2.0, mean_gap_s / 2 - 0.4)
        frame += gap_s * FRAME_RATE
    return closed


def holds(
    num_frames: int,
    targets: NDArray[np.float64],
    starts: NDArray[np.int64],
    num_moving: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Goes from target to target with minimum jerk, and holds there.

    Args:
        targets: `[K, C]`.
        starts: `[K]` frame at which the movement to a target starts; the first target holds before.
        num_moving: `[K]` frames that each movement takes.

    Returns:
        `[T, C]`.
    """
    curve = np.repeat(targets[:1], num_frames, axis=0)
    frames = np.arange(num_frames)
    for k in range(1, len(targets)):
        t = np.clip((frames - starts[k]) / max(1, int(num_moving[k])), 0, 1)[:, None]
        ease = t**3 * (10 - 15 * t + 6 * t * t)
        curve = curve + (targets[k] - targets[k - 1]) * ease
    return curve
