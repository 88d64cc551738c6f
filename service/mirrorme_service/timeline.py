"""The audio of the video: speech where it was placed, silence elsewhere."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mirrorme_service.clock import MediaClock
from mirrorme_service.pcm_ring import PcmRing
from mirrorme_service.speech_queue import SpeechPiece
from mirrorme_service.utterances import Utterances

# Whether there was speech lately is asked for longer than for the speech itself.
_SPAN_MEMORY_S = 1


@dataclass(frozen=True)
class _Span:
    start_sample: int
    stop_sample: int


class Timeline:
    """One session's audio from its start, as far as it is settled. Grows at the end."""

    def __init__(self, clock: MediaClock) -> None:
        self.pcm = PcmRing()
        self.utterances = Utterances(clock)
        self._clock = clock
        self._spans: deque[_Span] = deque()
        """Of speech, in order, not touching each other."""
        self._begin_sample = 0
        """Of the last utterance."""

    @property
    def end_sample(self) -> int:
        """Samples settled so far."""
        return self.pcm.end_sample

    @property
    def speech_end_sample(self) -> int:
        """Where the last speech ends; 0 without any."""
        return self._spans[-1].stop_sample if self._spans else 0

    @property
    def is_speaking(self) -> bool:
        """What is settled ends with speech."""
        return bool(self._spans) and self.speech_end_sample == self.end_sample

    def is_speech(self, sample: int) -> bool:
        """Whether a sample that was not forgotten is of speech."""
        return any(span.start_sample <= sample < span.stop_sample for span in self._spans)

    def next_change(self, sample: int) -> int | None:
        """The first sample after this one at which speech begins or ends, if one is known."""
        edges = (edge for span in self._spans for edge in (span.start_sample, span.stop_sample))
        return next((edge for edge in edges if edge > sample), None)

    def add_speech(self, pieces: Sequence[SpeechPiece]) -> None:
        """Speech follows."""
        for piece in pieces:
            start = self.end_sample
            if piece.starts:
                self._begin_sample = start
                self.utterances.begin(piece.utterance, start)
            self.pcm.append(piece.samples)
            if len(piece.samples):
                if self._spans and self._spans[-1].stop_sample == start:
                    start = self._spans.pop().start_sample
                self._spans.append(_Span(start, self.end_sample))
            if piece.ends:
                # An end that is known only after silence was settled lies before that silence.
                end = max(self._begin_sample, self.speech_end_sample)
                self.utterances.end(piece.utterance, end)

    def add_silence(self, num_samples: int) -> None:
        """Silence follows."""
        self.pcm.append(np.zeros(num_samples, np.float32))

    def cut(self, sample: int) -> int:
        """Takes back all from a sample on; returns how many samples of speech that were."""
        num_dropped = 0
        while self._spans and self._spans[-1].stop_sample > sample:
            span = self._spans.pop()
            num_dropped += span.stop_sample - max(sample, span.start_sample)
            if span.start_sample < sample:
                self._spans.append(_Span(span.start_sample, sample))
        self.pcm.cut(sample)
        self.utterances.cut(sample)
        return num_dropped

    def forget_before(self, sample: int) -> None:
        """Frees the audio before a sample."""
        self.pcm.forget_before(sample)
        long_ago = sample - _SPAN_MEMORY_S * self._clock.sample_rate_hz
        while len(self._spans) > 1 and self._spans[0].stop_sample <= long_ago:
            self._spans.popleft()

    def to_record(self) -> Any:
        """The audio, and where speech is in it, for `restore`. Without the utterances."""
        spans = [(span.start_sample, span.stop_sample) for span in self._spans]
        return self.pcm.to_record(), spans, self._begin_sample

    def restore(self, record: Any) -> None:
        """Holds what another one held."""
        pcm, spans, self._begin_sample = record
        self.pcm.restore(pcm)
        self._spans = deque(_Span(*span) for span in spans)
