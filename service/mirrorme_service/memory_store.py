"""The store of a gateway of its own: what it keeps ends with the process.

It lets a client whose connection broke go on at the same gateway.
"""

from __future__ import annotations

import hmac
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace

from mirrorme_service.store import Fenced, Hold, NotClaimed, StoreName

MAX_BYTES = 128 << 20


@dataclass
class _Entry:
    hold: Hold
    state: bytes
    expires_s: float


class MemoryStore:
    """Holds at most `max_bytes` of states: what was saved longest ago goes first.

    Portraits are not kept: in one process the identity cache has them.
    """

    name: StoreName = "memory"

    def __init__(
        self, max_bytes: int = MAX_BYTES, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._max_bytes = max_bytes
        self._clock = clock
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self.num_bytes = 0

    async def save_session(self, hold: Hold, state: bytes, ttl_s: float) -> None:
        """See `Store`."""
        held = self._live(hold.session_id)
        if held is not None and held.hold.fence > hold.fence:
            raise Fenced(f"session {hold.session_id} was claimed")
        self._drop(hold.session_id)
        self._entries[hold.session_id] = _Entry(hold, state, self._clock() + ttl_s)
        self.num_bytes += len(state)
        while self.num_bytes > self._max_bytes:
            self._drop(next(iter(self._entries)))
        self._drop_expired()

    async def claim_session(
        self, session_id: str, token_sha256: bytes, ttl_s: float
    ) -> tuple[Hold, bytes]:
        """See `Store`."""
        held = self._live(session_id)
        if held is None or not hmac.compare_digest(held.hold.token_sha256, token_sha256):
            raise NotClaimed("no such session, or not its token")
        held.hold = replace(held.hold, fence=held.hold.fence + 1)
        held.expires_s = self._clock() + ttl_s
        return held.hold, held.state

    async def forget_session(self, hold: Hold, after_s: float) -> None:
        """See `Store`."""
        held = self._live(hold.session_id)
        if held is not None and held.hold.fence == hold.fence:
            held.expires_s = self._clock() + after_s

    async def save_portrait(self, portrait_id: str, portrait: bytes, ttl_s: float) -> None:
        """See `Store`."""

    async def load_portrait(self, portrait_id: str, ttl_s: float) -> bytes | None:
        """See `Store`."""
        return None

    async def close(self) -> None:
        """See `Store`."""
        self._entries.clear()
        self.num_bytes = 0

    def _live(self, session_id: str) -> _Entry | None:
        entry = self._entries.get(session_id)
        return entry if entry is not None and entry.expires_s > self._clock() else None

    def _drop_expired(self) -> None:
        now_s = self._clock()
        for session_id in [i for i, e in self._entries.items() if e.expires_s <= now_s]:
            self._drop(session_id)

    def _drop(self, session_id: str) -> None:
        entry = self._entries.pop(session_id, None)
        if entry is not None:
            self.num_bytes -= len(entry.state)
