"""Speech that was received and has no place in the video yet."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class SpeechPiece:
    """Consecutive samples of one utterance."""

    utterance: int
    samples: NDArray[np.float32]
    starts: bool
    """The utterance begins here."""
    ends: bool
    """The utterance is over after it."""


class SpeechQueue:
    """Utterances in the order they were received. Each has a number, from 1."""

    def __init__(self) -> None:
        self._pieces: deque[SpeechPiece] = deque()
        self._open = False
        self.num_utterances = 0
        """Begun by the client."""
        self.num_samples = 0
        """Waiting."""
        self.last_push_samples = 0
        """That came at once the last time."""

    @property
    def is_open(self) -> bool:
        """More of the last utterance may come."""
        return self._open

    def hear(self) -> None:
        """Audio came: it begins an utterance, unless one is open."""
        if not self._open:
            self._open = True
            self.num_utterances += 1
            self._add(np.zeros(0, np.float32), starts=True)

    def push(self, samples: NDArray[np.float32]) -> None:
        """Adds samples to the open utterance."""
        if len(samples):
            self.last_push_samples = len(samples)
            self._add(samples)

    def end(self, samples: NDArray[np.float32]) -> None:
        """These are the open utterance's last. Without audio since the last end: nothing."""
        if self._open:
            self._open = False
            self._add(samples, ends=True)

    def pull(self, max_samples: int) -> list[SpeechPiece]:
        """Takes the oldest speech, with the beginnings and ends that lie in it."""
        pulled = []
        while self._pieces and len(self._pieces[0].samples) <= max_samples:
            piece = self._pieces.popleft()
            max_samples -= len(piece.samples)
            pulled.append(piece)
        if self._pieces and max_samples:
            piece = self._pieces.popleft()
            taken, left = piece.samples[:max_samples], piece.samples[max_samples:]
            pulled.append(SpeechPiece(piece.utterance, taken, piece.starts, ends=False))
            rest = SpeechPiece(piece.utterance, left, starts=False, ends=piece.ends)
            self._pieces.appendleft(rest)
        self.num_samples -= sum(len(piece.samples) for piece in pulled)
        return pulled

    def cut(self, num_kept: int) -> int:
        """Drops all but the oldest samples, which end their utterance; returns how many."""
        kept = self.pull(num_kept)
        num_dropped = self.num_samples
        self._pieces = deque(kept)
        self.num_samples = sum(len(piece.samples) for piece in kept)
        self._open = False
        if kept and not kept[-1].ends:
            last = kept[-1]
            ended = SpeechPiece(last.utterance, last.samples, last.starts, ends=True)
            self._pieces[-1] = ended
        return num_dropped

    def to_record(self) -> Any:
        """All of it, for `restore`."""
        pieces = [(p.utterance, p.samples, p.starts, p.ends) for p in self._pieces]
        return self._open, self.num_utterances, self.last_push_samples, pieces

    def restore(self, record: Any) -> None:
        """Holds what another one held."""
        self._open, self.num_utterances, self.last_push_samples, pieces = record
        self._pieces = deque(SpeechPiece(*piece) for piece in pieces)
        self.num_samples = sum(len(piece.samples) for piece in self._pieces)

    def _add(
        self, samples: NDArray[np.float32], *, starts: bool = False, ends: bool = False
    ) -> None:
        self._pieces.append(SpeechPiece(self.num_utterances, samples, starts, ends))
        self.num_samples += len(samples)
