"""The part of a session's audio that is still needed, addressed by sample index."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


class PcmRing:
    """Mono float32 samples `[start_sample, end_sample)` of a session.

    Appended at the end, forgotten at the start. Holds no more than what was not forgotten: the
    caller bounds it by forgetting.
    """

    def __init__(self) -> None:
        self._samples = np.empty(1 << 14, np.float32)
        self._head = 0
        self._size = 0
        self.start_sample = 0

    @property
    def end_sample(self) -> int:
        """Index after the last sample appended: the samples received since the session's start."""
        return self.start_sample + self._size

    def append(self, samples: NDArray[np.float32]) -> None:
        """Adds samples at the end."""
        if self._head + self._size + len(samples) > len(self._samples):
            self._make_room(len(samples))
        tail = self._head + self._size
        self._samples[tail : tail + len(samples)] = samples
        self._size += len(samples)

    def read(self, start_sample: int, stop_sample: int) -> NDArray[np.float32]:
        """A copy of `[start_sample, stop_sample)`; zeros before sample 0 and after the end.

        Asking for samples that were forgotten is a mistake of ours.
        """
        assert stop_sample <= 0 or max(start_sample, 0) >= self.start_sample, "samples forgotten"
        result = np.zeros(stop_sample - start_sample, np.float32)
        first, last = max(start_sample, self.start_sample), min(stop_sample, self.end_sample)
        if first < last:
            offset = self._head - self.start_sample
            held = self._samples[first + offset : last + offset]
            result[first - start_sample : last - start_sample] = held
        return result

    def forget_before(self, sample: int) -> None:
        """Frees what lies before a sample."""
        dropped = min(max(sample - self.start_sample, 0), self._size)
        self._head += dropped
        self._size -= dropped
        self.start_sample += dropped

    def cut(self, end_sample: int) -> None:
        """Takes back the samples from `end_sample` on."""
        assert end_sample >= self.start_sample, "samples forgotten"
        self._size = min(self._size, end_sample - self.start_sample)

    def to_record(self) -> Any:
        """What is held, for `restore`."""
        return self.start_sample, self.read(self.start_sample, self.end_sample)

    def restore(self, record: Any) -> None:
        """Holds what another one held."""
        self.start_sample, samples = record
        self._head = self._size = 0
        self.append(samples)

    def _make_room(self, num_samples: int) -> None:
        needed = self._size + num_samples
        # At most half full after a move, so that a move is paid for by as many appends.
        capacity = max(1 << 14, 1 << (2 * needed - 1).bit_length())
        moved = np.empty(capacity, np.float32)
        moved[: self._size] = self._samples[self._head : self._head + self._size]
        self._samples, self._head = moved, 0
