"""A real Triton server as a child process of a test."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import psutil

SCRIPT = Path(__file__).parents[2] / "deploy/triton/triton_server.py"


class TritonProcess:
    """Owns one server on ports of its own. It can be killed, frozen and started again."""

    def __init__(self, models: Path, log: Path, *, cpu: int | None = None) -> None:
        self.models = models
        self.grpc_port, self.http_port, self.metrics_port = _free_ports(3)
        self.address = f"127.0.0.1:{self.grpc_port}"
        self._log = log
        self._cpu = cpu
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, timeout_s: float = 60) -> TritonProcess:
        self.launch()
        deadline = time.monotonic() + timeout_s
        while not self.ready():
            assert self.running(), f"ended with {self.wait()}:\n{self.log()}"
            assert time.monotonic() < deadline, f"not ready within {timeout_s} s:\n{self.log()}"
            time.sleep(0.05)
        return self

    def launch(self) -> None:
        ports = {"grpc": self.grpc_port, "http": self.http_port, "metrics": self.metrics_port}
        command = [sys.executable, str(SCRIPT), "run", f"--models={self.models}"]
        command += [f"--{name}-port={port}" for name, port in ports.items()]
        if self._cpu is not None:
            command.append(f"--cpu={self._cpu}")
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(command, stdout=output, stderr=output)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def wait(self, timeout_s: float = 60) -> int:
        assert self._process is not None
        return self._process.wait(timeout_s)

    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def ready(self) -> bool:
        try:
            self._get(self.http_port, "/v2/health/ready")
        except (urllib.error.URLError, OSError):
            return False
        return True

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def counts(self, model: str) -> tuple[int, int]:
        """Inferences and executions of a model since the server's start."""
        text = self._get(self.metrics_port, "/metrics")
        found = {
            line.partition("{")[0]: float(line.rpartition(" ")[2])
            for line in text.splitlines()
            if f'model="{model}"' in line
        }
        return int(found["nv_inference_count"]), int(found["nv_inference_exec_count"])

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """Ends it without a word; its Python processes end by themselves."""
        self.signal(signal.SIGKILL)
        self.wait()

    def signal_model(self, model: str, number: signal.Signals) -> None:
        """Sends a signal to the Python process of a model."""
        assert self._process is not None
        for child in psutil.Process(self._process.pid).children(recursive=True):
            if any(f"/{model}/" in word for word in child.cmdline()):
                os.kill(child.pid, number)

    def stop(self) -> None:
        if not self.running():
            return
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        try:
            self.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()

    def _get(self, port: int, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=2) as response:
            return response.read().decode()


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports
