"""The noise that a chunk starts from: a function of the session's seed and the chunk's number.

A chunk made again after a failed call, or a session run again, starts from the same noise.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def chunk_noise(seed: int, chunk: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Standard normal noise of one chunk.

    Philox is counter-based: every (seed, chunk) pair is a key, and so a stream of its own.

    Args:
        seed: 0 to 2^64 - 1.
        chunk: number of the chunk in its session, 0 to 2^64 - 1.
        shape: of the result, without the batch dimension.
    """
    key = np.array([seed, chunk], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key)).standard_normal(shape, dtype=np.float32)
