"""The last latents of a session, by the chunk that made them."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
from mirrorme.animate.v1 import animation_pb2 as pb
from numpy.typing import NDArray

from mirrorme_service.identity_cache import Identity

Latents = NDArray[np.float32]
"""`[F, C, h, w]`."""


@dataclass(frozen=True)
class MadeChunk:
    """What one denoiser call made."""

    chunk: int
    identity: Identity
    """Of the portrait that it was made with."""
    latents: Latents


class LatentHistory:
    """The latents that later chunks need, and those that may have to be made again.

    Chunks are made in order, but not every number: a session that is late leaves some out. What
    stands before the first chunk of a portrait is the latent of the picture at rest, so that one
    portrait never moves on from another.
    """

    def __init__(self) -> None:
        self._made: deque[MadeChunk] = deque()

    def append(self, made: MadeChunk) -> None:
        """Adds a chunk after all others."""
        assert not self._made or self._made[-1].chunk < made.chunk, "chunks are made in order"
        self._made.append(made)

    def before(self, chunk: int, identity: Identity, num_latents: int) -> Latents:
        """The last latents of a portrait before a chunk."""
        parts: list[Latents] = []
        num_missing = num_latents
        for made in reversed(self._made):
            if made.chunk >= chunk:
                continue
            if num_missing <= 0 or not _same(made.identity, identity):
                break
            parts.append(made.latents)
            num_missing -= len(made.latents)
        if num_missing > 0:
            still = identity.latents
            parts.append(np.broadcast_to(still, (num_missing, *still.shape)))
        joined = np.concatenate(parts[::-1]) if parts else np.empty((0, *identity.latents.shape))
        return np.asarray(joined[len(joined) - num_latents :], np.float32)

    def after(self, chunk: int, num_latents: int) -> Latents:
        """The next latents of the same portrait after a chunk.

        Where another portrait follows, the last latent is held.
        """
        own = self._find(chunk)
        parts = [own.latents]
        for made in self._made:
            if made.chunk > chunk:
                if not _same(made.identity, own.identity):
                    break
                parts.append(made.latents)
        following = np.concatenate(parts)[len(own.latents) :][:num_latents]
        num_missing = num_latents - len(following)
        held = (following if len(following) else own.latents)[-1:]
        return np.concatenate([following, np.repeat(held, num_missing, axis=0)])

    def of_chunk(self, chunk: int) -> Latents:
        """What a chunk made."""
        return self._find(chunk).latents

    def drop_from(self, chunk: int) -> None:
        """Forgets a chunk and all after it, which are to be made again."""
        while self._made and self._made[-1].chunk >= chunk:
            self._made.pop()

    def forget_before(self, chunk: int, num_latents: int) -> None:
        """Forgets what this chunk and later ones need no more, given the latents they look at."""
        num_before = 0
        for index in range(len(self._made) - 1, -1, -1):
            if self._made[index].chunk < chunk:
                if num_before >= num_latents:
                    for _ in range(index + 1):
                        self._made.popleft()
                    return
                num_before += len(self._made[index].latents)

    def to_record(self, chunk: int) -> Any:
        """The chunks before one, for `restore`, each with its portrait's id."""
        return [
            (made.chunk, made.identity.portrait.portrait_id, made.latents)
            for made in self._made
            if made.chunk < chunk
        ]

    def restore(self, record: Any, identity: Identity) -> None:
        """Holds what another one held. Of other portraits than this one only the id is known."""
        self._made = deque(
            MadeChunk(
                chunk,
                identity
                if portrait_id == identity.portrait.portrait_id
                else Identity(pb.PortraitInfo(portrait_id=portrait_id), identity.latents),
                latents,
            )
            for chunk, portrait_id, latents in record
        )

    def _find(self, chunk: int) -> MadeChunk:
        return next(made for made in self._made if made.chunk == chunk)


def _same(one: Identity, other: Identity) -> bool:
    return one.portrait.portrait_id == other.portrait.portrait_id
