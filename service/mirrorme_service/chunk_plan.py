"""Chunks on their way: what is to be made, and what was made of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from mirrorme.animate.v1 import animation_pb2 as pb
from numpy.typing import NDArray

from mirrorme_service.identity_cache import Identity
from mirrorme_service.latent_history import Latents
from mirrorme_service.model import Conditions


@dataclass(frozen=True)
class ChunkPlan:
    """A chunk that can be made: its audio is there and its conditions are settled."""

    chunk: int
    num_frames: int
    """Frames of it that may be delivered. 0: it is made only for what the decoder looks ahead
    to."""
    conditions: Conditions
    identity: Identity
    level: pb.DegradationLevel = pb.DEGRADATION_LEVEL_NONE
    """What is given up to be on time."""
    reason: str = ""
    """Why, for people."""
    planned_s: float = 0.0
    """When, in real time: on the session's clock."""


@dataclass(frozen=True)
class LatentChunk:
    """A chunk that can be decoded."""

    plan: ChunkPlan
    latents: Latents
    """`[D + Tc + L, C, h, w]`"""
    engine_s: float
    """Time spent in the engines and the queues before them."""


@dataclass(frozen=True)
class FrameChunk:
    """A chunk's frames."""

    plan: ChunkPlan
    first_frame: int
    frames: NDArray[np.uint8]
    """`[F, H, W, 3]`"""
    engine_s: float
    """Time spent in the engines and the queues before them."""


class Planner(Protocol):
    """Decides which chunk is made next, and of which audio."""

    async def next(self) -> ChunkPlan | None:
        """Waits for the next chunk. None: there is none to come."""
        ...

    def heard(self) -> None:
        """Speech was added to the queue, or the session is finished."""
        ...

    def restart(self, chunk: int) -> None:
        """Plans from this chunk on again: what it was planned for was taken back."""
        ...

    def wake(self) -> None:
        """The session was paused or goes on."""
        ...

    def made(self, chunk: FrameChunk) -> None:
        """A planned chunk can be delivered."""
        ...
