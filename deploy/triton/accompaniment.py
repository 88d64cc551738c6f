"""A command with Triton servers of its own, which live as long as it does."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import types
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from installation import Installation, ServerError, say
from server_process import ServerOptions, log_file, start, stop, tail

_STOP_TIMEOUT_S = 20.0


@dataclass(frozen=True)
class Accompaniment:
    """What runs beside the command."""

    models: Path
    num_servers: int
    timeout_s: float
    """To wait until a server is ready."""

    def run(self, installation: Installation, command: list[str]) -> int:
        """Starts the servers, runs the command, stops the servers. Returns its exit status.

        The command finds the servers in the environment, by the names of the gateway's settings.
        SIGINT, SIGTERM and SIGHUP are handed on to the command, each once; the servers go on until
        it has ended.

        Raises:
            ServerError: a server cannot be started, or ended before the command.
        """
        with _signals_handed_on() as child, contextlib.ExitStack() as servers:
            installation.install()
            endpoints: list[ServerOptions] = []
            for _ in range(self.num_servers):
                grpc_port, http_port, metrics_port = _free_ports(3)
                options = ServerOptions(
                    self.models, grpc_port, http_port, metrics_port, with_parent=True
                )
                servers.callback(stop, installation, grpc_port, _STOP_TIMEOUT_S)
                start(installation, options, self.timeout_s)
                endpoints.append(options)
            listed = ",".join(f"{options.host}:{options.grpc_port}" for options in endpoints)
            say(f"Triton serves {self.models} at {listed}")
            status = child.run(command, listed)
            if status:
                _tell_of_ended(installation, endpoints)
        return status


class _Child:
    """The command, and the signals that came before it or for it."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def run(self, command: list[str], endpoints: str) -> int:
        environment = {
            **os.environ,
            "MIRRORME_PLATFORM": "triton",
            "MIRRORME_TRITON_ENDPOINTS": endpoints,
        }
        # In a group of its own, or Ctrl-C would reach it twice, and a gateway then drops sessions.
        try:
            self._process = subprocess.Popen(command, env=environment, process_group=0)
        except OSError as error:
            raise ServerError(f"{command[0]} cannot be run: {error.strerror}") from error
        status = self._process.wait()
        return status if status >= 0 else 128 - status

    def on_signal(self, number: int, _frame: types.FrameType | None) -> None:
        if self._process is None:
            raise SystemExit(128 + number)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)


@contextlib.contextmanager
def _signals_handed_on() -> Iterator[_Child]:
    child = _Child()
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, child.on_signal) for number in numbers]
    try:
        yield child
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def _tell_of_ended(installation: Installation, servers: list[ServerOptions]) -> None:
    for options in servers:
        with socket.socket() as probe:
            if probe.connect_ex((options.host, options.grpc_port)) != 0:
                log = log_file(installation, options.grpc_port)
                say(f"Triton at {options.host}:{options.grpc_port} has ended; {log}:\n{tail(log)}")


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
