"""Figures of curves over frames: likeness, lag, what is closed when, breaths and blinks."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import signal

from mirrorme_training.evaluation.face_reader import CLOSED_RATIO
from mirrorme_training.motion_noise import FRAME_RATE, smooth
from mirrorme_training.motion_pose import frame_levels
from mirrorme_training.speech_visemes import VisemeSpan

Curve = NDArray[np.float64]
BREATH_HZ = (0.15, 0.45)
_MIN_PAUSE_FRAMES = 8
_PAUSE_EDGE_FRAMES = 3
_QUIET = 0.06


@dataclass(frozen=True)
class Breathing:
    """Up and down of the trunk."""

    rate_hz: float
    """Of the strongest movement."""
    amplitude_px: float
    """Standard deviation in the band of breaths."""
    share: float
    """Of the movement's power that is in the band of breaths."""

    @property
    def present(self) -> bool:
        """It moves, and mostly as breath does."""
        return self.amplitude_px >= 0.1 and self.share >= 0.5


def correlation(a: Curve, b: Curve) -> float:
    """Pearson's r; 0 for a curve that never moves."""
    if a.std() < 1e-9 or b.std() < 1e-9:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])


def best_lag(made: Sequence[Curve], truth: Sequence[Curve], reach_frames: int = 6) -> int:
    """Frames by which what was made is best taken as late (positive) or early."""
    lags = range(-reach_frames, reach_frames + 1)
    return max(
        lags,
        key=lambda lag: float(
            np.mean([lagged(m, t, lag) for m, t in zip(made, truth, strict=True)])
        ),
    )


def lagged(made: Curve, truth: Curve, lag_frames: int) -> float:
    """r when what was made is taken as late by some frames."""
    if lag_frames >= 0:
        return correlation(made[lag_frames:], truth[: len(truth) - lag_frames])
    return correlation(made[:lag_frames], truth[-lag_frames:])


def lips_that_closed(opening: Curve, spans: Sequence[VisemeSpan]) -> list[bool]:
    """For each p, b and m whether a frame of its time shows closed lips.

    A frame is of it when the frame's middle is at most half a frame outside.
    """
    closed = []
    for span in spans:
        if span.viseme != "pp":
            continue
        first = max(0, int(np.ceil(span.start_s * FRAME_RATE - 1)))
        if first >= len(opening):
            break
        last = min(len(opening) - 1, int(np.floor(span.end_s * FRAME_RATE)))
        closed.append(bool(opening[first : last + 1].min() < CLOSED_RATIO))
    return closed


def envelope(samples: NDArray[np.float32], num_frames: int) -> Curve:
    """Loudness of speech frame by frame, smoothed at 4 Hz."""
    return smooth(frame_levels(samples, num_frames), 4.0)


def pause_frames(samples: NDArray[np.float32], num_frames: int) -> NDArray[np.bool_]:
    """`[T]` True within pauses of a third of a second and more, an eighth away from their ends.

    Quiet is what is 24 dB below the loud (95th percentile), or less than twice the floor (5th).
    """
    levels = frame_levels(samples, num_frames)
    quiet = levels < max(_QUIET, 2 * float(np.percentile(levels, 5)))
    inside = np.zeros(num_frames, bool)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], quiet.astype(int), [0]])))
    for start, stop in edges.reshape(-1, 2):
        if stop - start >= _MIN_PAUSE_FRAMES:
            inside[start + _PAUSE_EDGE_FRAMES : stop - _PAUSE_EDGE_FRAMES] = True
    return inside


def count_blinks(eyes_closed: Curve) -> int:
    """Times that the eyes go from open to more than half closed and back within a second."""
    shut = eyes_closed > 0.5
    edges = np.flatnonzero(np.diff(np.concatenate([[0], shut.astype(int), [0]])))
    return sum(1 for start, stop in edges.reshape(-1, 2) if stop - start <= FRAME_RATE)


def trunk_shifts_px(frames: NDArray[np.uint8]) -> Curve:
    """How far the trunk is moved down against the first frame, `[T]`, by least squares."""
    height, width = frames.shape[1:3]
    rows = slice(round(0.55 * height), round(0.8 * height))
    columns = slice(round(0.12 * width), round(0.88 * width))
    grey = torch.from_numpy(frames.mean(-1))
    first = grey[0]
    down = (torch.roll(first, -1, 0) - torch.roll(first, 1, 0)) / 2
    right = (torch.roll(first, -1, 1) - torch.roll(first, 1, 1)) / 2
    slopes = torch.stack([right[rows, columns].flatten(), down[rows, columns].flatten()], dim=1)
    changes = (first - grey)[:, rows, columns].flatten(1).T
    return torch.linalg.lstsq(slopes, changes).solution[1].numpy()


def breathing(frames: NDArray[np.uint8]) -> Breathing:
    """From the trunk's up and down between 0.05 and 2 Hz."""
    shifts = np.asarray(signal.detrend(trunk_shifts_px(frames)))
    rates, powers = signal.periodogram(shifts, FRAME_RATE)
    slow = (rates >= 0.05) & (rates <= 2.0)
    band = (rates >= BREATH_HZ[0]) & (rates <= BREATH_HZ[1])
    total = float(powers[slow].sum()) + 1e-12
    in_band = float(powers[band].sum())
    strongest = float(rates[slow][powers[slow].argmax()])
    return Breathing(strongest, float(np.sqrt(in_band * rates[1])), in_band / total)


def seam_ratio(frames: NDArray[np.uint8], chunk_frames: int) -> tuple[float, float]:
    """Mean absolute difference of neighbours across chunk boundaries, and within chunks."""
    steps = np.array(
        [
            np.abs(later.astype(np.int16) - earlier).mean()
            for earlier, later in itertools.pairwise(frames)
        ]
    )
    at_seam = np.arange(1, len(frames)) % chunk_frames == 0
    return float(steps[at_seam].mean()), float(steps[~at_seam].mean())
