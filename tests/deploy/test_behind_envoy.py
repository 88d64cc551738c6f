"""Gateways behind a real Envoy with the chart's route and policy, scraped by a real Prometheus.

Streams outlive its timeouts, new streams spread, a draining gateway is taken out, and a restart of
all gateways one after another fails no session.
"""

from __future__ import annotations

import asyncio
import io
import urllib.parse
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mirrorme.animate.v1 import animation_pb2 as pb
from mirrorme_client import AnimationClient, jpeg, pcm_s16le
from mirrorme_client.errors import AnimationError
from PIL import Image

from tests.deploy.chart import EVERYTHING, NAMESPACE, of_kind, render
from tests.deploy.envoy_config import envoy_config
from tests.deploy.fleet import restart_each, running_envoy, running_prometheus, until
from tests.service.gateway_process import running_gateways

pytestmark = pytest.mark.deploy

RATE_HZ = 16000
# Twenty minutes in twenty seconds.
TIMES_FASTER = 60.0
LONG_S = 20.0


def manifest(kind: str) -> dict[str, Any]:
    (found,) = of_kind(render(EVERYTHING), kind)
    return found


def portrait() -> bytes:
    """A picture of no one: nothing looks for a face in it."""
    file = io.BytesIO()
    Image.fromarray(np.full((64, 64, 3), 90, np.uint8)).save(file, "PNG")
    return file.getvalue()


async def speech(duration_s: float) -> AsyncIterator[bytes]:
    """Silence, as it would be spoken."""
    for _ in range(round(duration_s / 0.25)):
        yield bytes(RATE_HZ // 2)
        await asyncio.sleep(0.25)


async def animate(port: int, duration_s: float, *, at_once: bool = False) -> int:
    """One session of its own connection; returns the frame on whose index it ended.

    With `at_once` all speech is sent at once, and shown in real time, in which a busy machine
    leaves frames out.
    """
    end = 0
    async with AnimationClient(f"127.0.0.1:{port}", connect_timeout_s=60) as client:
        session = client.animate(
            portrait(),
            audio=[bytes(2 * round(RATE_HZ * duration_s))] if at_once else speech(duration_s),
            audio_format=pcm_s16le(RATE_HZ),
            output=jpeg(),
            crop_mode=pb.CROP_MODE_CENTER,
            pacing=pb.PACING_REAL_TIME if at_once else pb.PACING_UNSPECIFIED,
        )
        async with session:
            async for batch in session:
                end = batch.first_frame_index + len(batch.frames)
    return end


async def test_a_long_stream_is_cut_by_envoys_defaults_and_not_by_the_charts_policy(
    tmp_path: Path,
) -> None:
    route, policy = manifest("GRPCRoute"), manifest("BackendTrafficPolicy")
    async with running_gateways(1, tmp_path) as (gateway,):

        def configured(chosen: dict[str, Any] | None):
            return lambda port, admin_port: envoy_config(
                route, chosen, [gateway.port], port, admin_port, times_faster=TIMES_FASTER
            )

        async with running_envoy(configured(None), 1) as envoy:
            with pytest.raises(AnimationError):
                await animate(envoy.port, LONG_S, at_once=True)
        async with running_envoy(configured(policy), 1) as envoy:
            # Envoy counts a request's time from its half-close on: both ways of speaking.
            async with asyncio.TaskGroup() as streams:
                live = streams.create_task(animate(envoy.port, LONG_S))
                at_once = streams.create_task(animate(envoy.port, LONG_S, at_once=True))
            assert live.result() == round(LONG_S * 24)
            # In real time the face idles until the client's end is heard.
            assert at_once.result() >= round(LONG_S * 24)


async def test_streams_spread_and_a_draining_gateway_is_taken_out(tmp_path: Path) -> None:
    """Prometheus with the chart's rules watches; its sums are those of the gateways."""
    route, policy = manifest("GRPCRoute"), manifest("BackendTrafficPolicy")
    rules = manifest("PrometheusRule")["spec"]
    for group in rules["groups"]:
        group["interval"] = "1s"
    labels = {"namespace": NAMESPACE, "job": "mirrorme-gateway"}
    async with (
        running_gateways(3, tmp_path, "--drain-s=90", "--max-sessions=8") as gateways,
        running_envoy(
            lambda port, admin_port: envoy_config(
                route, policy, [g.port for g in gateways], port, admin_port
            ),
            3,
        ) as envoy,
        running_prometheus(rules, gateways, labels) as ask,
    ):

        async def active() -> list[float]:
            return [await g.metric("mirrorme_sessions_active") for g in gateways]

        async def recorded(record: str) -> float | None:
            found = (await ask(f"query?query={urllib.parse.quote(record)}"))["result"]
            return float(found[0]["value"][1]) if found else None

        async with asyncio.TaskGroup() as streams:
            first = [streams.create_task(animate(envoy.port, 30)) for _ in range(9)]

            async def all_run() -> bool:
                return sum(await active()) == 9

            await until(all_run, "nine sessions run")
            assert min(await active()) >= 1

            async def seen() -> bool:
                return await recorded("mirrorme:sessions_active:sum") == 9

            await until(seen, "Prometheus sees nine sessions")
            assert await recorded("mirrorme:sessions_capacity:sum") == 24
            assert await recorded("mirrorme:sessions_capacity:avg") == 8
            load = await recorded("mirrorme:gateway_load:sum")
            assert load is not None and load >= (9 + 2) / 8

            # One is told to end: its sessions go on, new ones go elsewhere.
            gateways[0].terminate()

            async def taken_out() -> bool:
                return gateways[0].port not in await envoy.healthy()

            await until(taken_out, "Envoy takes the gateway out")
            before = (await active())[0]
            more = [streams.create_task(animate(envoy.port, 3)) for _ in range(6)]
        assert before >= 1
        assert [task.result() for task in first] == [30 * 24] * 9
        assert [task.result() for task in more] == [3 * 24] * 6
        assert await gateways[0].wait() == 0
        groups = (await ask("rules"))["groups"]
        sick = [r["name"] for g in groups for r in g["rules"] if r["health"] != "ok"]
        assert len(groups) == 2 and not sick


async def test_a_rolling_restart_fails_no_session(tmp_path: Path) -> None:
    route, policy = manifest("GRPCRoute"), manifest("BackendTrafficPolicy")
    async with (
        running_gateways(3, tmp_path, "--drain-s=60", "--max-sessions=16") as gateways,
        running_envoy(
            lambda port, admin_port: envoy_config(
                route, policy, [g.port for g in gateways], port, admin_port
            ),
            3,
        ) as envoy,
    ):
        done: list[int] = []
        rolled = asyncio.Event()

        async def keep_animating() -> None:
            while not rolled.is_set():
                done.append(await animate(envoy.port, 2))

        async with asyncio.TaskGroup() as callers:
            # More than Envoy by itself would retry at once.
            for _ in range(12):
                callers.create_task(keep_animating())
            await restart_each(gateways, envoy)
            rolled.set()
        # Every session ended with all of its frames: a failed one would have raised.
        assert len(done) >= 12 and set(done) == {2 * 24}
