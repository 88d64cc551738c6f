"""A conversation as one session speaks it: spurts of speech, some cut off, and pauses."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True)
class TalkStyle:
    """How people talk; lengths are drawn evenly between the two."""

    min_spurt_s: float = 1.0
    max_spurt_s: float = 4.0
    min_pause_s: float = 0.5
    max_pause_s: float = 2.0
    cut_share: float = 0.25
    """Spurts that end by an interrupt (barge-in) instead of an end of utterance."""

    def __post_init__(self) -> None:
        """Refuses lengths that cannot be."""
        if not 0 < self.min_spurt_s <= self.max_spurt_s:
            raise ValueError(f"spurts of {self.min_spurt_s:g} to {self.max_spurt_s:g} s")
        if not 0 <= self.min_pause_s <= self.max_pause_s:
            raise ValueError(f"pauses of {self.min_pause_s:g} to {self.max_pause_s:g} s")
        if not 0 <= self.cut_share <= 1:
            raise ValueError(f"cut_share is {self.cut_share:g}: want 0 to 1")


@dataclass(frozen=True)
class Spurt:
    """Speech from `start_s` to `stop_s`, counted from the session's start."""

    start_s: float
    stop_s: float
    is_cut: bool


def talk(style: TalkStyle, seconds: float, seed: int) -> list[Spurt]:
    """The spurts of a session of this length; the same for the same seed."""
    draw = random.Random(seed)
    spurts: list[Spurt] = []
    at_s = draw.uniform(style.min_pause_s, style.max_pause_s)
    while at_s < seconds:
        stop_s = min(seconds, at_s + draw.uniform(style.min_spurt_s, style.max_spurt_s))
        spurts.append(Spurt(at_s, stop_s, draw.random() < style.cut_share))
        at_s = stop_s + draw.uniform(style.min_pause_s, style.max_pause_s)
    return spurts
