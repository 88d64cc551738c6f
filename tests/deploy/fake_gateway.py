"""The gateway's own program over fake engines: `python -m tests.deploy.fake_gateway --port ...`."""

from __future__ import annotations

from mirrorme_engines.engine import EngineSet
from mirrorme_engines.fake_engine import fake_engine_set
from mirrorme_engines.observer import EngineObserver
from mirrorme_service import main
from mirrorme_service.config import ServiceConfig
from mirrorme_service.server import Server

from tests.service.gateway import NoFaces


async def _open_fakes(config: ServiceConfig, observer: EngineObserver) -> EngineSet:
    return fake_engine_set(options=config.engine_options().batch, observer=observer)


class FakeServer(Server):
    """A server over fake engines."""

    @classmethod
    async def start(cls, config: ServiceConfig, *_: object) -> Server:
        return await super().start(config, _open_fakes, NoFaces())


if __name__ == "__main__":
    main.Server = FakeServer  # pyright: ignore[reportPrivateImportUsage]
    main.main()
