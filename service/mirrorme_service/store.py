"""What outlives a gateway: sessions' states and portraits' latents, as bytes, each for a while.

A session's state belongs to one gateway at a time. Whoever claims it gets the next fencing number,
and what an older holder saves after that is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

StoreName = Literal["memory", "redis"]


class StoreError(Exception):
    """Base of what can go wrong with a store."""


class StoreUnavailable(StoreError):
    """It does not answer, or not in time. Sessions go on without; later it may be back."""


class Fenced(StoreError):
    """Another gateway claimed the session. Its holder before ends it."""


class NotClaimed(StoreError):
    """There is no such session, or it expired, or the proof is not its own."""


@dataclass(frozen=True)
class Hold:
    """A gateway's right to save one session."""

    session_id: str
    token_sha256: bytes
    """Of the takeover token, which itself is kept nowhere but at the client."""
    fence: int = 1
    """Rises with each claim."""


class Store(Protocol):
    """Keeps bytes for a while. Used from one event loop; `close` ends it."""

    name: StoreName

    async def save_session(self, hold: Hold, state: bytes, ttl_s: float) -> None:
        """Replaces a session's state.

        Raises:
            Fenced: another holder claimed it.
            StoreUnavailable
        """
        ...

    async def claim_session(
        self, session_id: str, token_sha256: bytes, ttl_s: float
    ) -> tuple[Hold, bytes]:
        """Takes a session from whoever holds it; returns the state saved last.

        Raises:
            NotClaimed, StoreUnavailable
        """
        ...

    async def forget_session(self, hold: Hold, after_s: float) -> None:
        """Drops a session that ended, so long from now, unless another holder claimed it.

        Raises:
            StoreUnavailable
        """
        ...

    async def save_portrait(self, portrait_id: str, portrait: bytes, ttl_s: float) -> None:
        """Keeps a portrait.

        Raises:
            StoreUnavailable
        """
        ...

    async def load_portrait(self, portrait_id: str, ttl_s: float) -> bytes | None:
        """A portrait, kept for `ttl_s` from now; None: unknown, or expired.

        Raises:
            StoreUnavailable
        """
        ...

    async def close(self) -> None:
        """Frees connections. Idempotent."""
        ...
