"""A real redis-server of a test's own."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

requires_redis = [
    pytest.mark.redis,
    pytest.mark.skipif(
        shutil.which("redis-server") is None, reason="redis-server is not installed"
    ),
]


class RedisProcess:
    """Starts on a free port and keeps it when it is started again. Forgets all with its process."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.start()

    def start(self) -> None:
        """Returns once it answers."""
        self._process = subprocess.Popen(
            [
                *("redis-server", "--bind", "127.0.0.1", "--port", str(self.port)),
                *("--save", "", "--appendonly", "no", "--dir", str(self._folder)),
            ],
            stdout=subprocess.DEVNULL,
        )
        self._wait_for(b"PING", b"+PONG")

    def until_keys(self, num_keys: int) -> None:
        """Returns once it holds so many keys."""
        self._wait_for(b"DBSIZE", b":%d\r" % num_keys)

    def _wait_for(self, command: bytes, answer: bytes) -> None:
        for _ in range(1000):
            try:
                with socket.create_connection(("127.0.0.1", self.port), 1) as connection:
                    connection.sendall(command + b"\r\n")
                    if connection.recv(16).startswith(answer):
                        return
            except OSError:
                pass
            time.sleep(0.02)
        raise AssertionError(f"redis-server does not answer {command!r} with {answer!r}")

    def stop(self) -> None:
        """Kills it."""
        self._process.kill()
        self._process.wait()

    def freeze(self) -> None:
        """It answers no more, though connections stand."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """It answers again."""
        self._process.send_signal(signal.SIGCONT)
