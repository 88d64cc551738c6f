"""Opens the store that the settings name. Loads Redis' library only where it is asked for."""

from __future__ import annotations

from mirrorme_service.config import ConfigError, ServiceConfig
from mirrorme_service.memory_store import MemoryStore
from mirrorme_service.metrics import Metrics
from mirrorme_service.store import Store
from mirrorme_service.watched_store import WatchedStore


def open_store(config: ServiceConfig, metrics: Metrics) -> Store:
    """The store; the caller closes it. Nothing is connected yet.

    Raises:
        ConfigError: the URL cannot be, or the library is missing.
    """
    if not config.store_url:
        return WatchedStore(MemoryStore(), config.store_timeout_s, metrics)
    try:
        from mirrorme_service.redis_store import RedisStore
    except ModuleNotFoundError as error:
        raise ConfigError("store_url needs Redis: pip install 'mirrorme[redis]'") from error
    try:
        store = RedisStore(config.store_url, config.store_timeout_s)
    except ValueError as error:
        # Without the URL: it may hold a password.
        raise ConfigError(f"store_url is not a Redis URL: {error}") from error
    return WatchedStore(store, config.store_timeout_s, metrics)
