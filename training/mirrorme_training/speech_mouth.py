"""Visemes to the mouth's movement, with coarticulation.

Every viseme pulls the mouth towards its target by a dominance that falls off around its middle
(Cohen and Massaro, 1993); lips that touch are a gate of their own, so that they really close.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mirrorme_training.speech_visemes import SHAPES, VISEMES, VisemeSpan

MIN_CLOSED_S = 0.046
"""Closed lips stay so for at least this long: more than a frame at 24 FPS, so one shows it."""
_REACH_S = 0.035
_RAMP_S = 0.055
_LONG_SILENCE_S = 0.12
"""A shorter silence is the closure of a stop, or a hesitation: the lips need not meet."""
_REST_RAMP_S = 0.11


def mouth_curves(
    spans: Sequence[VisemeSpan], times_s: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The mouth at some times.

    Returns:
        Shapes `[T, len(SHAPES)]`, and how far the lips are closed `[T]`, 0 to 1.
    """
    spans = _joined_silences(spans)
    if not spans:
        return np.zeros((len(times_s), len(SHAPES))), np.ones(len(times_s))
    targets = np.array([VISEMES[span.viseme].shape for span in spans])
    strengths = np.array([VISEMES[span.viseme].strength for span in spans])
    start = np.array([span.start_s for span in spans])
    end = np.array([span.end_s for span in spans])
    outside = np.maximum(start - times_s[:, None], times_s[:, None] - end)
    middle, half = (start + end) / 2, (end - start) / 2
    inside = np.abs(times_s[:, None] - middle) - half
    away = np.where(outside > 0, outside, 0.35 * inside) / _REACH_S
    weights = strengths * np.exp(-np.clip(away, -1.5, 40))
    weights /= weights.sum(axis=1, keepdims=True) + 1e-12
    return weights @ targets, _closure(spans, times_s)


def _joined_silences(spans: Sequence[VisemeSpan]) -> list[VisemeSpan]:
    joined: list[VisemeSpan] = []
    for span in spans:
        if span.viseme == "sil" and joined and joined[-1].viseme == "sil":
            joined[-1] = VisemeSpan("sil", joined[-1].start_s, span.end_s)
        else:
            joined.append(span)
    return joined


def _closure(spans: Sequence[VisemeSpan], times_s: NDArray[np.float64]) -> NDArray[np.float64]:
    closed = np.zeros(len(times_s))
    for i, span in enumerate(spans):
        if not VISEMES[span.viseme].closed:
            continue
        start, end, ramp = span.start_s, span.end_s, _RAMP_S
        if span.viseme == "sil":
            if end - start < _LONG_SILENCE_S:
                continue
            ramp = _REST_RAMP_S
            start = start if i == 0 else start + 0.03
            end = end if i == len(spans) - 1 else end - 0.04
        else:
            lack = max(0.0, MIN_CLOSED_S - (end - start)) / 2
            start, end = start - lack, end + lack
        if end <= start:
            continue
        outside = np.maximum(np.maximum(start - times_s, times_s - end), 0) / ramp
        first_or_last = (i == 0) & (times_s < start) | (i == len(spans) - 1) & (times_s > end)
        gate = np.where(first_or_last, 1.0, _ease(1 - outside))
        closed = np.maximum(closed, gate)
    after = times_s > spans[-1].end_s
    since = (times_s - spans[-1].end_s) / _REST_RAMP_S
    before = times_s < spans[0].start_s
    until = (spans[0].start_s - times_s) / _REST_RAMP_S
    closed = np.where(after, np.maximum(closed, _ease(since)), closed)
    return np.where(before, np.maximum(closed, _ease(until)), closed)


def _ease(x: NDArray[np.float64]) -> NDArray[np.float64]:
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)
