"""Saves one session beside its stream, again and again, as long as it lives.

Nothing waits for it. A store that does not answer costs the client's way back, not its session.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable

from mirrorme.animate.v1 import animation_pb2 as pb

from mirrorme_service.errors import SessionTaken
from mirrorme_service.session import Session
from mirrorme_service.store import Fenced, Hold, Store, StoreUnavailable

log = logging.getLogger(__name__)

_INTERVAL_S, _MAX_INTERVAL_S = 0.2, 1.0
_REPEAT_S = 1.0
# The end of a session may be lost with its stream, and is then sent again.
_MAX_END_S = 20.0
# Saving takes no more than this part of the time.
_MAX_SHARE = 0.1


class SessionKeeper:
    """Keeps a resumable session from `run` to its cancellation.

    Args:
        hold: the right to save it.
        session: asked for what is to be saved.
        say: sends the client what is saved.
        ttl_s: how long what was saved is good for.
    """

    def __init__(
        self,
        store: Store,
        hold: Hold,
        session: Session,
        say: Callable[[pb.StreamAnimateResponse], Awaitable[None]],
        ttl_s: float,
    ) -> None:
        self._store = store
        self._hold = hold
        self._session = session
        self._say = say
        self._ttl_s = ttl_s

    async def run(self) -> None:
        """Saves whenever something changed, and else from time to time, as a store may lose it.

        What was saved last stays good when the session gives nothing newer.

        Raises:
            SessionTaken: another stream goes on with the session.
        """
        saved_s, last = -math.inf, None
        record, saved = None, pb.StateSaved()
        while True:
            started_s = time.monotonic()
            version = self._session.version
            if version != last or started_s - saved_s > _REPEAT_S:
                fresh = self._session.record()
                if fresh is not None:
                    record, saved = fresh, pb.StateSaved(input=self._session.input_position)
                if record is not None and await self._save(record):
                    saved_s, last = started_s, version
                    await self._say(pb.StreamAnimateResponse(state_saved=saved))
            took_s = time.monotonic() - started_s
            pause_s = min(max(_INTERVAL_S, took_s / _MAX_SHARE), _MAX_INTERVAL_S)
            await asyncio.sleep(pause_s)

    async def forget(self) -> None:
        """The session came to its end: soon nobody goes on with it any more."""
        try:
            await self._store.forget_session(self._hold, _MAX_END_S)
        except StoreUnavailable:
            log.info("the store still has the session, until it expires")

    async def _save(self, record: bytes) -> bool:
        try:
            await self._store.save_session(self._hold, record, self._ttl_s)
        except StoreUnavailable:
            return False
        except Fenced as error:
            message = "another stream goes on with this session"
            raise SessionTaken("SESSION_TAKEN_OVER", message) from error
        return True
