"""A store with a deadline on everything, counted, and logged when it goes away and comes back."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable
from typing import TypeVar

from mirrorme_service.metrics import Metrics
from mirrorme_service.store import Hold, Store, StoreName, StoreUnavailable

log = logging.getLogger(__name__)

_Result = TypeVar("_Result")


class WatchedStore:
    """Passes on to another store, which it closes. See `Store` for the methods."""

    def __init__(self, store: Store, timeout_s: float, metrics: Metrics) -> None:
        self.name: StoreName = store.name
        self._store = store
        self._timeout_s = timeout_s
        self._metrics = metrics
        self._is_up = True
        metrics.store_up.labels(store.name).set(1)

    async def save_session(self, hold: Hold, state: bytes, ttl_s: float) -> None:
        """See `Store`."""
        await self._watched("save_session", self._store.save_session(hold, state, ttl_s))

    async def claim_session(
        self, session_id: str, token_sha256: bytes, ttl_s: float
    ) -> tuple[Hold, bytes]:
        """See `Store`."""
        claim = self._store.claim_session(session_id, token_sha256, ttl_s)
        return await self._watched("claim_session", claim)

    async def forget_session(self, hold: Hold, after_s: float) -> None:
        """See `Store`."""
        await self._watched("forget_session", self._store.forget_session(hold, after_s))

    async def save_portrait(self, portrait_id: str, portrait: bytes, ttl_s: float) -> None:
        """See `Store`."""
        await self._watched(
            "save_portrait", self._store.save_portrait(portrait_id, portrait, ttl_s)
        )

    async def load_portrait(self, portrait_id: str, ttl_s: float) -> bytes | None:
        """See `Store`."""
        return await self._watched("load_portrait", self._store.load_portrait(portrait_id, ttl_s))

    async def close(self) -> None:
        """See `Store`."""
        await self._store.close()

    async def _watched(self, operation: str, call: Awaitable[_Result]) -> _Result:
        started = time.perf_counter()
        outcome = "ok"
        try:
            async with asyncio.timeout(self._timeout_s):
                return await call
        except TimeoutError as error:
            outcome = "failed"
            message = f"the store did not answer within {self._timeout_s:g} s"
            raise StoreUnavailable(message) from error
        except StoreUnavailable:
            outcome = "failed"
            raise
        finally:
            self._metrics.store_operations.labels(operation, outcome).inc()
            elapsed_s = time.perf_counter() - started
            self._metrics.store_operation.labels(operation).observe(elapsed_s)
            self._note(outcome == "ok")

    def _note(self, is_up: bool) -> None:
        if is_up != self._is_up:
            self._is_up = is_up
            self._metrics.store_up.labels(self.name).set(is_up)
            if is_up:
                log.info("the %s store answers again", self.name)
            else:
                log.warning("the %s store does not answer: sessions go on without it", self.name)
