"""A gateway of its own process, for benchmarks to measure from outside."""

from __future__ import annotations

import asyncio
import socket
import sys
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
from mirrorme_client import AnimationClient

MAX_SESSIONS = 16
"""Unless flags say otherwise: a capacity measured at the start would bound what is measured."""
START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Gateway:
    """A running gateway and a client connected to it."""

    client: AnimationClient
    process: psutil.Process
    metrics_url: str

    @property
    def cpu_s(self) -> float:
        """CPU time that the gateway has used since its start."""
        times = self.process.cpu_times()
        return times.user + times.system

    @property
    def rss_mib(self) -> float:
        """Resident memory, with that of the processes that decode portraits."""
        total = self.process.memory_info().rss
        for decoder in self.process.children():
            with suppress(psutil.NoSuchProcess):  # replaced just now
                total += decoder.memory_info().rss
        return total / 2**20

    def metrics(self) -> dict[str, float]:
        """What the metrics port says now: values by name with labels. Blocks."""
        with urllib.request.urlopen(self.metrics_url, timeout=10) as response:
            lines = response.read().decode().splitlines()
        rows = (line.rpartition(" ") for line in lines if line and not line.startswith("#"))
        return {name: float(value) for name, _, value in rows}


@asynccontextmanager
async def running_gateway(engines: Path, log: Path, *flags: str) -> AsyncIterator[Gateway]:
    """Starts `python -m mirrorme_service`, waits until it serves, and stops it at the end."""
    port, metrics_port = _free_port(), _free_port()
    command = [sys.executable, "-m", "mirrorme_service", "--engines", str(engines)]
    command += ["--port", str(port), "--metrics-port", str(metrics_port)]
    command += ["--max-sessions", str(MAX_SESSIONS), *flags]
    with log.open("wb") as output:
        child = await asyncio.create_subprocess_exec(*command, stdout=output, stderr=output)
    target = f"127.0.0.1:{port}"
    try:
        async with AnimationClient(target, connect_timeout_s=START_TIMEOUT_S) as client:
            url = f"http://127.0.0.1:{metrics_port}/metrics"
            yield Gateway(client, psutil.Process(child.pid), url)
    finally:
        if child.returncode is None:
            child.terminate()
        code = await asyncio.wait_for(child.wait(), STOP_TIMEOUT_S)
    if code != 0:
        raise RuntimeError(f"the gateway ended with {code}; see {log}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
