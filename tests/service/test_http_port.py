"""What the HTTP port says of a gateway: metrics, readiness, life."""

from __future__ import annotations

import asyncio
import threading
import urllib.error
import urllib.request

import pytest

from tests.service.gateway import Gateway, running_gateway, until

pytestmark = pytest.mark.asyncio(loop_scope="session")


def status(gateway: Gateway, path: str) -> int:
    """Blocks."""
    url = f"http://127.0.0.1:{gateway.server.metrics_port}{path}"
    try:
        with urllib.request.urlopen(url, timeout=30) as response:
            return response.status
    except urllib.error.HTTPError as error:
        return error.code


async def statuses(gateway: Gateway, *paths: str) -> list[int]:
    return [await asyncio.to_thread(status, gateway, path) for path in paths]


async def test_ready_follows_the_engines_and_live_does_not() -> None:
    async with running_gateway(ready_check_s=0.05, engine_attempts=1) as gateway:
        assert await statuses(gateway, "/ready", "/live", "/metrics") == [200, 200, 200]
        gateway.engines.denoiser.faults.fail_when(lambda _inputs: True)
        await until(lambda: not gateway.metric("mirrorme_ready"))
        assert await statuses(gateway, "/ready", "/live") == [503, 200]
        gateway.engines.denoiser.faults.fail_when(lambda _inputs: False)
        await until(lambda: gateway.metric("mirrorme_ready"))
        assert await statuses(gateway, "/ready") == [200]


async def test_a_gateway_that_drains_is_not_ready() -> None:
    async with running_gateway() as gateway:
        call = gateway.stub.StreamAnimate()
        await until(lambda: gateway.server.admission.num_active)
        stopping = asyncio.create_task(gateway.server.stop(60))
        await until(lambda: gateway.server.admission.is_draining)
        assert await statuses(gateway, "/ready", "/live") == [503, 200]
        call.cancel()
        await stopping


async def test_a_loop_that_does_not_turn_is_not_live(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mirrorme_service.http_port._MAX_TURN_S", 0.05)
    async with running_gateway() as gateway:
        said: list[int] = []
        asking = threading.Thread(target=lambda: said.append(status(gateway, "/live")))
        asking.start()
        asking.join()  # in the event loop's own thread
        assert said == [503]
