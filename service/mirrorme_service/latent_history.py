"""The last latents of a session, addressed by latent index."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Latents = NDArray[np.float32]
"""`[F, 128, h, w]`."""


class LatentHistory:
    """The latents from the session's start, of which only the last `num_kept` are held.

    What stands before latent 0 is `still`, `[128, h, w]`: the latent of a picture at rest.
    """

    def __init__(self, still: Latents, num_kept: int) -> None:
        self._still = still
        self._num_kept = num_kept
        self._held = np.empty((0, *still.shape), np.float32)
        self.end = 0
        """Index after the last latent appended."""

    def append(self, latents: Latents) -> None:
        """Adds latents at the end and forgets what is older than the last `num_kept`."""
        held = np.concatenate([self._held, latents])
        self._held = held[max(0, len(held) - self._num_kept) :]
        self.end += len(latents)

    def read(self, start: int, stop: int) -> Latents:
        """A copy of `[start, stop)`; indices below 0 are the still picture."""
        first = self.end - len(self._held)
        assert stop <= self.end, "latents not made yet"
        assert start >= min(first, stop) or first == 0, "latents forgotten"
        still = np.broadcast_to(self._still, (max(0, min(stop, 0) - start), *self._still.shape))
        return np.concatenate([still, self._held[max(start, 0) - first : max(stop, 0) - first]])
