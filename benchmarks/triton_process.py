"""Triton servers of their own processes, for benchmarks to measure from outside."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from mirrorme_export.triton_repository import TritonOptions, write_triton_repository

SCRIPT = Path(__file__).parents[1] / "deploy/triton/triton_server.py"
HOME = SCRIPT.parents[2] / ".triton"


@dataclass(frozen=True)
class Triton:
    """A running server."""

    models: Path
    grpc_port: int
    core: int | None = None
    """The only one that it may use; None: all."""

    @property
    def address(self) -> str:
        """For the client."""
        return f"127.0.0.1:{self.grpc_port}"

    @property
    def pid(self) -> int:
        """Its process."""
        return int((HOME / f"run/{self.grpc_port}.pid").read_text())

    def start(self) -> None:
        """Returns when it serves."""
        pinned = [] if self.core is None else [f"--cpu={self.core}"]
        _script("start", f"--models={self.models}", f"--grpc-port={self.grpc_port}", *pinned)

    def stop(self) -> None:
        """Ends it politely; nothing where it does not run."""
        _script("stop", f"--grpc-port={self.grpc_port}")

    def kill(self) -> None:
        """SIGKILL, and waits until it is gone."""
        process = psutil.Process(self.pid)
        process.kill()
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.005)

    @property
    def cpu_s(self) -> float:
        """CPU time of the server and the Python processes of its models since their start."""
        server = psutil.Process(self.pid)
        times = [p.cpu_times() for p in (server, *server.children(recursive=True))]
        return sum(t.user + t.system for t in times)

    def counts(self, model: str) -> tuple[int, int]:
        """Inferences and executions of a model since the server's start."""
        url = f"http://127.0.0.1:{self.grpc_port + 2000}/metrics"
        with urllib.request.urlopen(url, timeout=5) as response:
            lines = response.read().decode().splitlines()
        found = {
            line.partition("{")[0]: float(line.rpartition(" ")[2])
            for line in lines
            if f'model="{model}"' in line
        }
        return int(found["nv_inference_count"]), int(found["nv_inference_exec_count"])


@contextmanager
def running_tritons(models: Path, cores: list[int | None]) -> Iterator[list[Triton]]:
    """Starts one server for each entry, pinned to that core, and stops them at the end."""
    servers: list[Triton] = []
    try:
        for core in cores:
            servers.append(Triton(models, _free_port(), core))
            servers[-1].start()
        yield servers
    finally:
        for server in servers:
            server.stop()


def model_repository(engines: Path, folder: Path) -> Path:
    """A copy of an export that a server with the Python backend alone can serve."""
    models = folder / engines.name
    shutil.copytree(engines, models)
    write_triton_repository(models, TritonOptions(platform="python"))
    return models


def _script(*arguments: str) -> None:
    subprocess.run([sys.executable, str(SCRIPT), *arguments], check=True, capture_output=True)


def _free_port() -> int:
    """A port whose companions, 1000 and 2000 above, are free as well."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        if port + 2000 < 65536 and all(_is_free(port + offset) for offset in (1000, 2000)):
            return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0
