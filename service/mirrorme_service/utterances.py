"""Where utterances begin and end in the video.

Utterances follow each other without a gap in the audio: the audio after an end begins the next one.
A frame belongs to the utterance that it starts in, so the frame across a border is the last one of
the utterance before it. An utterance in which no frame starts begins and ends at the same frame.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from mirrorme_service.clock import MediaClock


@dataclass(frozen=True)
class Border:
    """An utterance starts with this frame, or has finished before it."""

    frame: int
    utterance: int
    starts: bool


class Utterances:
    """The utterances of one session: told of audio and ends, asked for borders."""

    def __init__(self, clock: MediaClock) -> None:
        self._clock = clock
        self._borders: deque[Border] = deque()
        self._open = False
        self._next_start_sample = 0
        self.num_begun = 0

    def hear(self) -> None:
        """Audio came: it begins an utterance, unless one is open."""
        if not self._open:
            self._open = True
            self.num_begun += 1
            self._add(self._next_start_sample, starts=True)

    def end(self, sample: int) -> None:
        """The open utterance ends before this sample. Without audio since the last end: nothing."""
        if self._open:
            self._open = False
            self._next_start_sample = sample
            self._add(sample, starts=False)

    def pop_until(self, frame: int) -> list[Border]:
        """The borders up to and at a frame, in order, each once."""
        due = []
        while self._borders and self._borders[0].frame <= frame:
            due.append(self._borders.popleft())
        return due

    @property
    def next_border_frame(self) -> int | None:
        """Of the first border that was not popped; None: none is known."""
        return self._borders[0].frame if self._borders else None

    def _add(self, sample: int, *, starts: bool) -> None:
        frame = self._clock.first_frame_from(sample)
        self._borders.append(Border(frame, self.num_begun, starts))
