"""The store that gateways share: a Redis server, 6.2 or newer.

A session is one hash of fence, token hash and state; scripts make each change of it one step.
"""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import replace
from typing import Any, TypeVar, cast

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from mirrorme_service.store import Fenced, Hold, NotClaimed, StoreName, StoreUnavailable

_Result = TypeVar("_Result")

_PREFIX = "mirrorme:1"
"""Of all keys; the number is the format's."""
_MAX_CONNECTIONS = 16

# A holder with a greater fence is a later one. Without a record, as after a restart of Redis, the
# session is whose state comes first, until a later holder saves.
_SAVE = """
local fence = redis.call('HGET', KEYS[1], 'fence')
if fence and tonumber(fence) > tonumber(ARGV[1]) then return 0 end
redis.call('HSET', KEYS[1], 'fence', ARGV[1], 'token', ARGV[2], 'state', ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return 1
"""
_CLAIM = """
local held = redis.call('HMGET', KEYS[1], 'token', 'state')
if not held[1] or held[1] ~= ARGV[1] then return false end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return {redis.call('HINCRBY', KEYS[1], 'fence', 1), held[2]}
"""
_FORGET = """
if redis.call('HGET', KEYS[1], 'fence') ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
"""


class RedisStore:
    """Connects when it is first used, and again whenever it has to.

    Args:
        url: `redis://[user:password@]host[:port][/db]`, `rediss://` with TLS, or `unix://path`.
        timeout_s: of connecting, and of one answer.

    Raises:
        ValueError: the URL is none of these.
    """

    name: StoreName = "redis"

    def __init__(self, url: str, timeout_s: float) -> None:
        # A connection that Redis closed, as it does when it restarts, is replaced at once.
        pool = redis.asyncio.BlockingConnectionPool.from_url(
            url,
            max_connections=_MAX_CONNECTIONS,
            timeout=timeout_s,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            retry=Retry(NoBackoff(), 1),
        )
        self._redis = redis.asyncio.Redis.from_pool(pool)
        self._save = self._redis.register_script(_SAVE)
        self._claim = self._redis.register_script(_CLAIM)
        self._forget = self._redis.register_script(_FORGET)

    async def save_session(self, hold: Hold, state: bytes, ttl_s: float) -> None:
        """See `Store`."""
        arguments = [hold.fence, hold.token_sha256, state, _ms(ttl_s)]
        if not await _answer(self._save([_session_key(hold.session_id)], arguments)):
            raise Fenced(f"session {hold.session_id} was claimed")

    async def claim_session(
        self, session_id: str, token_sha256: bytes, ttl_s: float
    ) -> tuple[Hold, bytes]:
        """See `Store`."""
        arguments = [token_sha256, _ms(ttl_s)]
        claimed = await _answer(self._claim([_session_key(session_id)], arguments))
        if claimed is None:
            raise NotClaimed("no such session, or not its token")
        fence, state = claimed
        return replace(Hold(session_id, token_sha256), fence=fence), state

    async def forget_session(self, hold: Hold, after_s: float) -> None:
        """See `Store`."""
        arguments = [hold.fence, _ms(after_s)]
        await _answer(self._forget([_session_key(hold.session_id)], arguments))

    async def save_portrait(self, portrait_id: str, portrait: bytes, ttl_s: float) -> None:
        """See `Store`."""
        await _answer(self._redis.set(_portrait_key(portrait_id), portrait, px=_ms(ttl_s)))

    async def load_portrait(self, portrait_id: str, ttl_s: float) -> bytes | None:
        """See `Store`."""
        portrait = await _answer(self._redis.getex(_portrait_key(portrait_id), px=_ms(ttl_s)))
        return cast(bytes | None, portrait)

    async def close(self) -> None:
        """See `Store`."""
        await self._redis.aclose()
        await self._redis.connection_pool.disconnect()


async def _answer(call: Awaitable[_Result] | Any) -> _Result | Any:
    """What Redis answers; its errors in the store's words."""
    try:
        return await call
    except (RedisError, OSError, TimeoutError) as error:
        raise StoreUnavailable(f"Redis does not answer: {type(error).__name__}") from error


def _session_key(session_id: str) -> str:
    return f"{_PREFIX}:session:{session_id}"


def _portrait_key(portrait_id: str) -> str:
    return f"{_PREFIX}:portrait:{portrait_id}"


def _ms(seconds: float) -> int:
    return max(1, round(1000 * seconds))
