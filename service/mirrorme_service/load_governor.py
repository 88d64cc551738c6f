"""What a real-time session gives up to stay on time, and how early its chunks are begun.

Policy alone: numbers in, numbers out. One for each session.

On time means that a chunk is there before its first frame is due. Sessions that are late give up
steps of the denoiser first, if the model has a denoiser with fewer, and new frames next: a chunk of
which nothing could be shown in time is left out. What was given up is taken back one step at a time
after a calm stretch, which grows with every relapse.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TypeAlias

from mirrorme.animate.v1 import animation_pb2 as pb

Level: TypeAlias = pb.DegradationLevel

# A chunk is begun as long before its time as the slowest tenth of the last ones took, and this.
# All of it is latency.
_NUM_REMEMBERED = 60
_SLOW_SHARE = 0.9
_MARGIN_S = 0.015
_MAX_LEAD_CHUNKS = 3

_LATE_CHUNKS = 3
_CALM_CHUNKS = 30
_MAX_CALM_CHUNKS = 480


class LoadGovernor:
    """
    Args:
        chunk_s: how much video a chunk makes.
        first_guess_s: how long a chunk takes, before the first was made.
        has_cheaper: whether there is a denoiser with fewer steps.
    """

    def __init__(self, chunk_s: float, first_guess_s: float, *, has_cheaper: bool) -> None:
        self._chunk_s = chunk_s
        self._has_cheaper = has_cheaper
        self._took_s: deque[float] = deque([first_guess_s], maxlen=_NUM_REMEMBERED)
        self._num_late = 0
        self._num_calm = 0
        self._calm_wanted = _CALM_CHUNKS
        self.level: Level = pb.DEGRADATION_LEVEL_NONE

    @property
    def chunk_s(self) -> float:
        """How long a chunk takes, as a rule."""
        return self._quantile_s(0.5)

    @property
    def lead_s(self) -> float:
        """How long before its time a chunk is begun."""
        return min(self._quantile_s(_SLOW_SHARE) + _MARGIN_S, _MAX_LEAD_CHUNKS * self._chunk_s)

    @property
    def shortest_lead_s(self) -> float:
        """How long before its time a chunk is begun that waits for its audio."""
        return min(self._quantile_s(_SLOW_SHARE), self.lead_s)

    @property
    def reason(self) -> str:
        """Why this is the level, for people."""
        return f"a chunk of {self._chunk_s:.2f} s takes {self.chunk_s:.2f} s to make"

    def made(self, took_s: float, early_s: float) -> None:
        """A chunk is there, so long before its first frame is due; negative: after it."""
        self._took_s.append(took_s)
        if early_s < 0:
            self._num_late += 1
            self._num_calm = 0
            if self._num_late >= _LATE_CHUNKS and self.level == pb.DEGRADATION_LEVEL_NONE:
                self._lower(pb.DEGRADATION_LEVEL_FEWER_STEPS)
            return
        self._num_late = 0
        self._num_calm += 1
        if self._num_calm >= self._calm_wanted:
            self._num_calm = 0
            self._restore()

    def left_out(self) -> None:
        """A chunk was not made."""
        self._num_calm = 0
        if self.level == pb.DEGRADATION_LEVEL_NONE and self._has_cheaper:
            self._lower(pb.DEGRADATION_LEVEL_FEWER_STEPS)
        elif self.level != pb.DEGRADATION_LEVEL_LOWER_RATE:
            self._lower(pb.DEGRADATION_LEVEL_LOWER_RATE)

    def _quantile_s(self, share: float) -> float:
        ordered = sorted(self._took_s)
        return ordered[max(0, math.ceil(share * len(ordered)) - 1)]

    def _lower(self, level: Level) -> None:
        if level == pb.DEGRADATION_LEVEL_FEWER_STEPS and not self._has_cheaper:
            return
        self.level = level
        self._num_late = 0
        self._took_s = deque([self.chunk_s], maxlen=_NUM_REMEMBERED)
        self._calm_wanted = min(2 * self._calm_wanted, _MAX_CALM_CHUNKS)

    def _restore(self) -> None:
        had_fewer_steps = self.level == pb.DEGRADATION_LEVEL_LOWER_RATE and self._has_cheaper
        self.level = (
            pb.DEGRADATION_LEVEL_FEWER_STEPS if had_fewer_steps else pb.DEGRADATION_LEVEL_NONE
        )
