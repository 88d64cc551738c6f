"""A real Envoy in front of gateways, and a real Prometheus beside them."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.deploy.chart import ROOT
from tests.service.gateway_process import START_TIMEOUT_S, GatewayProcess, get


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago."""
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


async def until(holds: Callable[[], Any], what: str, timeout_s: float = START_TIMEOUT_S) -> None:
    """Waits until an async question is answered with yes; a refused connection is a no."""
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                try:
                    if await holds():
                        return
                except OSError:
                    pass
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise AssertionError(f"{what}: not within {timeout_s:g} s") from None


def _launch(command: Sequence[str | Path], log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as output:
        return subprocess.Popen(command, stdout=output, stderr=output, cwd=ROOT)


class Envoy:
    """A running Envoy."""

    def __init__(self, port: int, admin_port: int) -> None:
        self.port = port
        self.admin_port = admin_port

    async def healthy(self) -> set[int]:
        """Ports of the gateways that get new streams."""
        document = json.loads(await get(f"http://127.0.0.1:{self.admin_port}/clusters?format=json"))
        hosts = document["cluster_statuses"][0].get("host_statuses", [])
        return {
            host["address"]["socket_address"]["port_value"]
            for host in hosts
            if "failed_active_health_check" not in host["health_status"]
        }


@asynccontextmanager
async def running_envoy(
    configure: Callable[[int, int], str], num_backends: int
) -> AsyncIterator[Envoy]:
    """Starts Envoy by a configuration of its two ports, and stops it."""
    port, admin_port = free_ports(2)
    binary = Path(sys.executable).with_name("envoy")
    with tempfile.TemporaryDirectory() as scratch:
        config, log = Path(scratch) / "envoy.json", Path(scratch) / "envoy.log"
        config.write_text(configure(port, admin_port))
        command = [binary, "-c", config, "--disable-hot-restart", "--concurrency", "1"]
        process = _launch(command, log)
        envoy = Envoy(port, admin_port)
        try:

            async def ready() -> bool:
                assert process.poll() is None, log.read_text(errors="replace")
                return len(await envoy.healthy()) == num_backends

            await until(ready, "Envoy sees all gateways")
            yield envoy
        finally:
            process.terminate()
            process.wait(30)


@asynccontextmanager
async def running_prometheus(
    rules: dict[str, Any], gateways: list[GatewayProcess], labels: dict[str, str]
) -> AsyncIterator[Callable[[str], Any]]:
    """A Prometheus with rules that scrapes gateways; gives a function that asks it."""
    (port,) = free_ports(1)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "rules.json").write_text(json.dumps(rules))
        targets = [
            {
                "targets": [f"127.0.0.1:{g.metrics_port}"],
                "labels": {**labels, "pod": f"gateway-{i}"},
            }
            for i, g in enumerate(gateways)
        ]
        config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(folder / "rules.json")],
            "scrape_configs": [{"job_name": "pods", "static_configs": targets}],
        }
        (folder / "prometheus.yml").write_text(json.dumps(config))
        command = ["prometheus", f"--config.file={folder / 'prometheus.yml'}"]
        command += [f"--storage.tsdb.path={folder / 'data'}"]
        command += [f"--web.listen-address=127.0.0.1:{port}"]
        process = _launch(command, folder / "prometheus.log")

        async def ask(path: str) -> Any:
            return json.loads(await get(f"http://127.0.0.1:{port}/api/v1/{path}"))["data"]

        try:
            await until(lambda: ask("rules"), "Prometheus starts")
            yield ask
        finally:
            process.terminate()
            process.wait(30)


async def restart_each(gateways: Sequence[GatewayProcess], envoy: Envoy) -> None:
    """One after the other, each back behind Envoy before the next one goes."""
    for gateway in gateways:
        gateway.terminate()
        assert await gateway.wait() == 0
        await gateway.start()

        async def is_back(gateway: GatewayProcess = gateway) -> bool:
            return gateway.port in await envoy.healthy()

        await until(is_back, "Envoy takes the gateway in again")
