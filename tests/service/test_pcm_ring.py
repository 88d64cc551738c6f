"""The ring holds what was not forgotten, and silence around the session."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mirrorme_service.pcm_ring import PcmRing


@given(st.lists(st.tuples(st.integers(0, 30_000), st.integers(0, 40_000)), max_size=20))
def test_reads_what_was_appended(steps: list[tuple[int, int]]) -> None:
    ring, whole = PcmRing(), np.zeros(0, np.float32)
    for num_samples, forgotten in steps:
        samples = np.arange(len(whole), len(whole) + num_samples, dtype=np.float32)
        ring.append(samples)
        whole = np.concatenate([whole, samples])
        ring.forget_before(forgotten)
        assert ring.end_sample == len(whole)
        start = ring.start_sample
        padded = np.concatenate([whole[start:], np.zeros(100, np.float32)])
        np.testing.assert_array_equal(ring.read(start, len(whole) + 100), padded)


def test_silence_before_the_start() -> None:
    ring = PcmRing()
    ring.append(np.ones(4, np.float32))
    np.testing.assert_array_equal(ring.read(-3, 2), [0, 0, 0, 1, 1])
    np.testing.assert_array_equal(ring.read(-3, -1), [0, 0])


def test_memory_is_bounded_by_what_is_held() -> None:
    ring = PcmRing()
    for _ in range(1000):
        ring.append(np.ones(16_000, np.float32))
        ring.forget_before(ring.end_sample - 16_000)
    assert ring._samples.nbytes <= 1 << 19


def test_forgotten_samples_are_not_invented() -> None:
    ring = PcmRing()
    ring.append(np.ones(100, np.float32))
    ring.forget_before(50)
    with pytest.raises(AssertionError):
        ring.read(49, 60)
