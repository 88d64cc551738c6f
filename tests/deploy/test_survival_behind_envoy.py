"""Gateways around a real Redis, behind a real Envoy with the chart's route and policy.

Clients know Envoy's address alone, so all that moves a session is Envoy's choice.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.deploy.chart import EVERYTHING, of_kind, render
from tests.deploy.envoy_config import envoy_config
from tests.deploy.fleet import Envoy, restart_each, running_envoy
from tests.service.gateway_process import GatewayProcess, running_gateways
from tests.service.redis_process import RedisProcess
from tests.survival.talk import Got, assert_same, talk
from tests.survival.talk import until as until_frames

pytestmark = [pytest.mark.deploy, pytest.mark.timeout(600)]

# Sessions outlast the drain: they are cut, and go on elsewhere.
DRAIN_S = 2
REAL_TIME_PAUSE_S = 0.1


@asynccontextmanager
async def running_fleet(
    count: int, folder: Path
) -> AsyncIterator[tuple[list[GatewayProcess], Envoy]]:
    """Gateways that share a Redis, and their Envoy."""
    manifests = render(EVERYTHING)
    (route,) = of_kind(manifests, "GRPCRoute")
    (policy,) = of_kind(manifests, "BackendTrafficPolicy")
    redis = RedisProcess(folder)
    settings = (f"--store-url={redis.url}", f"--drain-s={DRAIN_S}", "--max-sessions=16")
    try:
        async with (
            running_gateways(count, folder, *settings) as gateways,
            running_envoy(
                lambda port, admin_port: envoy_config(
                    route, policy, [g.port for g in gateways], port, admin_port
                ),
                count,
            ) as envoy,
        ):
            yield gateways, envoy
    finally:
        redis.stop()


async def test_a_killed_gateway_costs_no_frame(tmp_path: Path) -> None:
    async with running_fleet(2, tmp_path) as (gateways, envoy):
        targets = [f"127.0.0.1:{envoy.port}"]
        unbroken = await talk(targets, Got(), pause_s=0)
        got, may_end = Got(), asyncio.Event()
        session = asyncio.create_task(talk(targets, got, may_end=may_end))
        await until_frames(got, 40)
        active = [await gateway.metric("mirrorme_sessions_active") for gateway in gateways]
        assert sorted(active) == [0, 1]
        gateways[active.index(1)].kill()
        may_end.set()
        await session
        assert got.num_moves == 1
        assert_same(got, unbroken)


async def test_a_rolling_restart_under_load_fails_no_session(tmp_path: Path) -> None:
    async with running_fleet(3, tmp_path) as (gateways, envoy):
        targets = [f"127.0.0.1:{envoy.port}"]
        unbroken = await talk(targets, Got(), pause_s=0)
        done: list[Got] = []
        rolled = asyncio.Event()

        async def keep_talking() -> None:
            while not rolled.is_set():
                done.append(await talk(targets, Got(), pause_s=REAL_TIME_PAUSE_S))

        async with asyncio.TaskGroup() as callers:
            for _ in range(4):
                callers.create_task(keep_talking())
            await restart_each(gateways, envoy)
            rolled.set()
        # Every session came whole, those that were moved as well: a failed one would have raised.
        for got in done:
            assert_same(got, unbroken)
        assert len(done) >= 4 and sum(got.num_moves for got in done) >= 1
