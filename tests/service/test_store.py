"""One suite over both stores: who may save what, what expires, what is left of a lost server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from mirrorme_service.config import ConfigError, ServiceConfig
from mirrorme_service.memory_store import MemoryStore
from mirrorme_service.metrics import Metrics
from mirrorme_service.open_store import open_store
from mirrorme_service.redis_store import RedisStore
from mirrorme_service.store import Fenced, Hold, NotClaimed, Store, StoreUnavailable
from mirrorme_service.watched_store import WatchedStore

from tests.service.redis_process import RedisProcess, requires_redis

TOKEN, OTHER_TOKEN = b"\x00token\xff" * 4, b"other" * 6
HOLD = Hold("session", TOKEN)
STATE, LATER = bytes(range(256)) * 40, b"later"


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisProcess]:
    server = RedisProcess(tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()


@pytest.fixture(params=["memory", pytest.param("redis", marks=requires_redis)])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    if request.param == "memory":
        opened: Store = MemoryStore()
    else:
        server: RedisProcess = request.getfixturevalue("redis_server")
        opened = RedisStore(server.url, 5.0)
        await opened._redis.flushall()
    yield opened
    await opened.close()


async def test_what_was_saved_last_is_claimed(store: Store) -> None:
    await store.save_session(HOLD, STATE, 60)
    await store.save_session(HOLD, LATER, 60)
    hold, state = await store.claim_session("session", TOKEN, 60)
    assert (hold, state) == (Hold("session", TOKEN, 2), LATER)
    hold, state = await store.claim_session("session", TOKEN, 60)
    assert (hold.fence, state) == (3, LATER)


async def test_a_later_holder_shuts_out_the_one_before(store: Store) -> None:
    await store.save_session(HOLD, STATE, 60)
    hold, _ = await store.claim_session("session", TOKEN, 60)
    with pytest.raises(Fenced):
        await store.save_session(HOLD, LATER, 60)
    await store.save_session(hold, LATER, 60)
    await store.forget_session(HOLD, 0)
    await asyncio.sleep(0.01)
    assert (await store.claim_session("session", TOKEN, 60))[1] == LATER


async def test_only_the_token_claims(store: Store) -> None:
    await store.save_session(HOLD, STATE, 60)
    for session_id, token in (("session", OTHER_TOKEN), ("session", b""), ("other", TOKEN)):
        with pytest.raises(NotClaimed):
            await store.claim_session(session_id, token, 60)
    await store.save_session(HOLD, LATER, 60)  # nobody was let in


async def test_a_session_is_forgotten_by_its_holder(store: Store) -> None:
    await store.save_session(HOLD, STATE, 60)
    await store.forget_session(HOLD, 60)
    assert (await store.claim_session("session", TOKEN, 60))[0].fence == 2
    await store.forget_session(Hold("session", TOKEN, 2), 0)
    await asyncio.sleep(0.01)
    with pytest.raises(NotClaimed):
        await store.claim_session("session", TOKEN, 60)
    await store.forget_session(HOLD, 0)


async def test_a_session_expires(store: Store) -> None:
    await store.save_session(HOLD, STATE, 0.05)
    await asyncio.sleep(0.1)
    with pytest.raises(NotClaimed):
        await store.claim_session("session", TOKEN, 60)
    await store.save_session(HOLD, STATE, 0.05)
    await store.save_session(HOLD, LATER, 60)
    await asyncio.sleep(0.1)
    assert (await store.claim_session("session", TOKEN, 60))[1] == LATER


async def test_claims_at_once_get_numbers_of_their_own(store: Store) -> None:
    await store.save_session(HOLD, STATE, 60)
    claims = await asyncio.gather(*(store.claim_session("session", TOKEN, 60) for _ in range(8)))
    assert sorted(hold.fence for hold, _ in claims) == list(range(2, 10))


async def test_memory_is_bounded() -> None:
    store = MemoryStore(max_bytes=1000)
    for i in range(20):
        await store.save_session(Hold(f"{i}", TOKEN), bytes(300), 60)
        assert store.num_bytes <= 1000
    with pytest.raises(NotClaimed):
        await store.claim_session("16", TOKEN, 60)
    assert (await store.claim_session("17", TOKEN, 60))[1] == bytes(300)


async def test_memory_of_expired_sessions_is_freed() -> None:
    now_s = [0.0]
    store = MemoryStore(clock=lambda: now_s[0])
    await store.save_session(HOLD, STATE, 10)
    now_s[0] = 11
    await store.save_session(Hold("other", TOKEN), LATER, 10)
    assert store.num_bytes == len(LATER)


def test_settings_choose() -> None:
    assert open_store(ServiceConfig(), Metrics()).name == "memory"
    config = ServiceConfig(store_url="redis://:secret@localhost:1/0")
    assert open_store(config, Metrics()).name == "redis"
    with pytest.raises(ConfigError, match="not a Redis URL") as refused:
        open_store(ServiceConfig(store_url="http://secret@localhost"), Metrics())
    assert "secret" not in str(refused.value)


class TestWithRedis:
    pytestmark = requires_redis

    async def test_portraits_are_shared_and_expire(self, redis_server: RedisProcess) -> None:
        first, second = (RedisStore(redis_server.url, 5.0) for _ in range(2))
        assert await second.load_portrait("p", 60) is None
        await first.save_portrait("p", STATE, 0.1)
        assert await second.load_portrait("p", 60) == STATE
        await asyncio.sleep(0.15)
        assert await first.load_portrait("p", 0.05) == STATE  # loading kept it
        await asyncio.sleep(0.1)
        assert await first.load_portrait("p", 60) is None
        await first.close()
        await second.close()

    async def test_a_lost_server_is_told_counted_and_found_again(self, tmp_path: Path) -> None:
        server, metrics = RedisProcess(tmp_path), Metrics()
        store = WatchedStore(RedisStore(server.url, 0.3), 0.5, metrics)

        def value(name: str, **labels: str) -> float | None:
            return metrics.registry.get_sample_value(f"mirrorme_store_{name}", labels)

        async def is_unavailable() -> None:
            with pytest.raises(StoreUnavailable):
                await asyncio.wait_for(store.save_session(HOLD, STATE, 60), 2)
            assert value("up", store="redis") == 0

        await store.save_session(HOLD, STATE, 60)
        server.stop()
        await is_unavailable()
        await asyncio.to_thread(server.start)
        await store.save_session(HOLD, LATER, 60)
        assert value("up", store="redis") == 1
        server.freeze()
        await is_unavailable()
        server.thaw()
        assert (await store.claim_session("session", TOKEN, 60))[1] in (LATER, STATE)
        failed = value("operations_total", operation="save_session", outcome="failed")
        assert failed == 2
        await store.close()
        server.stop()

    async def test_after_an_empty_restart_the_later_holder_wins(self, tmp_path: Path) -> None:
        server = RedisProcess(tmp_path)
        store = RedisStore(server.url, 2.0)
        await store.save_session(HOLD, STATE, 60)
        later, _ = await store.claim_session("session", TOKEN, 60)
        server.stop()
        await asyncio.to_thread(server.start)
        await store.save_session(HOLD, STATE, 60)
        await store.save_session(later, LATER, 60)
        with pytest.raises(Fenced):
            await store.save_session(HOLD, STATE, 60)
        await store.close()
        server.stop()
