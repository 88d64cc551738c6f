"""Clips of several folders as if they were one."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch

from mirrorme_training.clip_window import ClipSource, ClipWindow
from mirrorme_training.recipe import BankConfig

_SEEDS_APART = 1_000_003


class JoinedClips:
    """See `ClipSource`. Sources take turns, each as often as it has clips."""

    def __init__(self, sources: Sequence[ClipSource]) -> None:
        self._sources = sources
        turns = sorted(
            ((place + 0.5) / source.num_clips, index, place)
            for index, source in enumerate(sources)
            for place in range(source.num_clips)
        )
        self._turns = [(index, place) for _, index, place in turns]

    @property
    def device(self) -> torch.device:
        """See `ClipSource`."""
        return self._sources[0].device

    @property
    def num_clips(self) -> int:
        """See `ClipSource`."""
        return len(self._turns)

    @property
    def is_endless(self) -> bool:
        """See `ClipSource`."""
        return all(source.is_endless for source in self._sources)

    @property
    def data_hash(self) -> str:
        """See `ClipSource`."""
        hashes = " ".join(source.data_hash for source in self._sources)
        return hashlib.sha256(hashes.encode()).hexdigest()

    def window(self, number: int, bank: BankConfig, size_px: int, seed: int) -> ClipWindow:
        """See `ClipSource`."""
        lap, turn = divmod(number, len(self._turns))
        index, place = self._turns[turn]
        source = self._sources[index]
        # Of its own, or folders that are painted on demand would show the same people.
        own_seed = seed + index * _SEEDS_APART
        return source.window(lap * source.num_clips + place, bank, size_px, own_seed)
