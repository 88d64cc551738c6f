"""Where utterances begin and end in the video.

A frame belongs to the utterance that it starts in, so the frame across a border is the last one of
the utterance before it. An utterance in which no frame starts begins and ends at the same frame.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mirrorme_service.clock import MediaClock


@dataclass(frozen=True)
class Border:
    """An utterance starts with this frame, or has finished before it."""

    frame: int
    utterance: int
    starts: bool
    interrupted: bool = False
    """It did not come to its end."""


class Utterances:
    """The utterances of one session: told where they lie, asked for borders."""

    def __init__(self, clock: MediaClock) -> None:
        self._clock = clock
        self._borders: deque[Border] = deque()
        self._popped: int | None = None
        """The utterance whose beginning was popped, and not its end."""

    def begin(self, utterance: int, sample: int) -> None:
        """An utterance begins with this sample."""
        self._borders.append(Border(self._frame(sample), utterance, starts=True))

    def end(self, utterance: int, sample: int) -> None:
        """An utterance ends before this sample."""
        self._borders.append(Border(self._frame(sample), utterance, starts=False))

    def cut(self, sample: int) -> None:
        """All ends before this sample. What begins only after it does not begin."""
        frame = self._frame(sample)
        kept = [border for border in self._borders if border.frame < frame]
        open_utterance = self._popped
        for border in kept:
            open_utterance = border.utterance if border.starts else None
        self._borders = deque(kept)
        if open_utterance is not None:
            border = Border(frame, open_utterance, starts=False, interrupted=True)
            self._borders.append(border)

    def pop_until(self, frame: int) -> list[Border]:
        """The borders up to and at a frame, in order, each once."""
        due = []
        while self._borders and self._borders[0].frame <= frame:
            border = self._borders.popleft()
            self._popped = border.utterance if border.starts else None
            due.append(border)
        return due

    @property
    def next_border_frame(self) -> int | None:
        """Of the first border that was not popped; None: none is known."""
        return self._borders[0].frame if self._borders else None

    @property
    def last_border_frame(self) -> int:
        """Of the last border that was not popped; 0 without one."""
        return self._borders[-1].frame if self._borders else 0

    @property
    def open_utterance(self) -> int | None:
        """Whose beginning was popped, and not its end."""
        return self._popped

    def to_record(self, popped: Sequence[Border], open_utterance: int | None) -> Any:
        """For `restore`, as it was before these borders were popped."""
        borders = [*popped, *self._borders]
        return open_utterance, [(b.frame, b.utterance, b.starts, b.interrupted) for b in borders]

    def restore(self, record: Any) -> None:
        """Holds what another one held."""
        self._popped, borders = record
        self._borders = deque(Border(*border) for border in borders)

    def _frame(self, sample: int) -> int:
        return self._clock.first_frame_from(sample)
