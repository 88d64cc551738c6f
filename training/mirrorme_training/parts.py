"""How a step's batch is cut, so that several processes, or one after another, can make it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Parts:
    """The parts of a step's batch, and which of them a process makes.

    Each part has clips and randomness of its own, which depend on its number alone: who makes it
    changes nothing.
    """

    count: int = 1
    """Of all processes."""
    rank: int = 0
    num_processes: int = 1

    @property
    def own(self) -> range:
        """Numbers of the parts that this process makes."""
        return range(self.rank, self.count, self.num_processes)


WHOLE = Parts()
"""One process, the batch in one piece."""
