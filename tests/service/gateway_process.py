"""A gateway as a process of its own, over fake engines, that a test ends as it likes."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from mirrorme_engines.fake_manifest import fake_manifest

START_TIMEOUT_S = 120.0
_READY = re.compile(rb"ready: serving on 127\.0\.0\.1:(\d+).*?, metrics on 127\.0\.0\.1:(\d+)")


async def get(url: str) -> str:
    """What is at an address."""

    def fetch() -> str:
        with urllib.request.urlopen(url, timeout=10) as response:
            return response.read().decode()

    return await asyncio.to_thread(fetch)


class GatewayProcess:
    """Starts on free ports, and keeps them when it is started again. End it with `kill`."""

    def __init__(self, log: Path, *settings: str) -> None:
        self.port = 0
        self.metrics_port = 0
        self._log = log
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def target(self) -> str:
        """Where clients find it."""
        return f"127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Returns once it is ready."""
        num_old_bytes = self._log.stat().st_size if self._log.exists() else 0
        process = self._process = self._launch()
        async with asyncio.timeout(START_TIMEOUT_S):
            while not (match := _READY.search(self._log.read_bytes(), num_old_bytes)):
                assert process.poll() is None, self._log.read_text(errors="replace")
                await asyncio.sleep(0.05)
        self.port, self.metrics_port = map(int, match.groups())

    def _launch(self) -> subprocess.Popen[bytes]:
        engines = self._log.parent
        if not (engines / "manifest.json").exists():
            fake_manifest().save(engines)
        command = [sys.executable, "-m", "mirrorme_service", "--platform=fake"]
        command += [f"--engines={engines}", f"--port={self.port}"]
        command += [f"--metrics-port={self.metrics_port}", *self._settings]
        with self._log.open("ab") as output:
            return subprocess.Popen(command, stdout=output, stderr=output)

    async def metric(self, name: str) -> float:
        """The sum of a metric's series."""
        text = await get(f"http://127.0.0.1:{self.metrics_port}/metrics")
        lines = [line for line in text.splitlines() if line.startswith((f"{name} ", f"{name}{{"))]
        return sum(float(line.rpartition(" ")[2]) for line in lines)

    def terminate(self) -> None:
        """Lets it drain."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)

    async def wait(self) -> int:
        """Returns how it ended."""
        assert self._process is not None
        return await asyncio.to_thread(self._process.wait, 120)

    def kill(self) -> None:
        """Ends it at once, if it runs."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()


@asynccontextmanager
async def running_gateways(
    count: int, folder: Path, *settings: str
) -> AsyncIterator[list[GatewayProcess]]:
    """Starts gateways, and kills what is left of them."""
    gateways = [GatewayProcess(folder / f"gateway-{i}.log", *settings) for i in range(count)]
    try:
        async with asyncio.TaskGroup() as starts:
            for gateway in gateways:
                starts.create_task(gateway.start())
        yield gateways
    finally:
        for gateway in gateways:
            gateway.kill()
