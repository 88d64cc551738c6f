"""One server process: its settings, its start, its end."""

from __future__ import annotations

import ctypes
import dataclasses
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from installation import Installation, ServerError

SCRIPT = Path(__file__).with_name("triton_server.py")
SHARED_MEMORY = Path("/dev/shm")
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class ServerOptions:
    """One server; servers on one machine differ in ports."""

    models: Path
    grpc_port: int
    http_port: int
    metrics_port: int
    host: str = "127.0.0.1"
    cpu: int | None = None
    """The only core that the server may use; None: all."""
    log: Path | None = None
    """None: standard error."""
    with_parent: bool = False
    """End when the process that started the server is gone, however it went."""

    def flags(self, known: set[str]) -> list[str]:
        """The command line, without what this server's version does not know."""
        wanted = {
            "--model-repository": str(self.models.resolve()),
            "--grpc-address": self.host,
            "--grpc-port": str(self.grpc_port),
            "--http-address": self.host,
            "--http-port": str(self.http_port),
            "--metrics-address": self.host,
            "--metrics-port": str(self.metrics_port),
            "--model-control-mode": "none",
            "--exit-on-error": "true",
            "--strict-readiness": "true",
            "--disable-auto-complete-config": None,
            "--allow-gpu-metrics": "false",
            "--allow-client-shm": "true",
            "--exit-timeout-secs": "10",
            "--grpc-infer-response-compression-level": "none",
            "--pinned-memory-pool-byte-size": "0",
        }
        given = [
            name if value is None else f"{name}={value}"
            for name, value in wanted.items()
            if name in known
        ]
        return [
            *given,
            f"--backend-config=python,shm-region-prefix-name={region_prefix(os.getpid())}",
            "--backend-config=python,shm-default-byte-size=16777216",
            "--backend-config=python,shm-growth-byte-size=16777216",
        ]


def run(installation: Installation, options: ServerOptions) -> None:
    """Becomes the server: returns only when it cannot be started."""
    installation.install()
    command, environment = prepare(installation, options)
    if options.cpu is not None:
        os.sched_setaffinity(0, {options.cpu})
    if options.with_parent:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if options.log is not None:
        descriptor = os.open(options.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
    os.execve(command[0], command, environment)


def prepare(installation: Installation, options: ServerOptions) -> tuple[list[str], dict[str, str]]:
    """Command line and environment of a server; frees the memory that killed ones left."""
    if not (options.models / "manifest.json").exists():
        raise ServerError(f"no {options.models}/manifest.json: run `make export` first")
    if not any(options.models.glob("*/config.pbtxt")):
        raise ServerError(
            f"{options.models} holds no config.pbtxt: export it for Triton first "
            "(mirrorme-export triton)"
        )
    remove_orphans()
    flags = [
        *options.flags(installation.known_flags()),
        f"--backend-directory={installation.backends}",
    ]
    num_threads = 1 if options.cpu is not None else (os.cpu_count() or 1)
    return [str(installation.binary), *flags], installation.environment(num_threads)


def region_prefix(pid: int) -> str:
    """Of the shared memory between the server of this process id and its Python backend.

    Names the space of the id, too: containers may share memory and not process ids.
    """
    return f"{_regions()}{pid}_"


def remove_orphans() -> None:
    """Removes the shared memory of servers that were killed."""
    for region in SHARED_MEMORY.glob(f"{_regions()}*"):
        pid = region.name.removeprefix(_regions()).partition("_")[0]
        if pid.isdecimal() and not _alive(int(pid)):
            region.unlink(missing_ok=True)


def _regions() -> str:
    return f"mirrorme_triton_{Path('/proc/self/ns/pid').stat().st_ino}_"


def start(installation: Installation, options: ServerOptions, timeout_s: float) -> int:
    """Starts a server in the background and waits until it is ready. Returns its process id."""
    pid_file = _pid_file(installation, options.grpc_port)
    log = options.log or log_file(installation, options.grpc_port)
    if pid_file.exists() and _alive(int(pid_file.read_text())):
        raise ServerError(f"port {options.grpc_port}: a server runs already: stop it first")
    installation.install()
    pid_file.parent.mkdir(exist_ok=True)
    command = [sys.executable, SCRIPT, "--home", installation.home, "run", *_arguments(options)]
    with log.open("wb") as output:
        process = subprocess.Popen(
            list(map(str, command)), stdout=output, stderr=output, start_new_session=True
        )
    pid_file.write_text(str(process.pid))
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if process.poll() is not None:
            pid_file.unlink()
            raise ServerError(f"the server ended with status {process.returncode}:\n{tail(log)}")
        if ready(options):
            return process.pid
        time.sleep(0.1)
    stop(installation, options.grpc_port, timeout_s=5)
    raise ServerError(f"the server was not ready within {timeout_s:g} s:\n{tail(log)}")


def stop(installation: Installation, grpc_port: int, timeout_s: float) -> bool:
    """Ends a server that `start` began: politely, then by force. False: there was none."""
    pid_file = _pid_file(installation, grpc_port)
    if not pid_file.exists():
        return False
    pid = int(pid_file.read_text())
    for number, wait_s in ((signal.SIGTERM, timeout_s), (signal.SIGKILL, 5.0)):
        if not _alive(pid):
            break
        os.kill(pid, number)
        deadline = time.monotonic() + wait_s
        while _alive(pid) and time.monotonic() < deadline:
            time.sleep(0.05)
    pid_file.unlink(missing_ok=True)
    return True


def ready(options: ServerOptions) -> bool:
    """True when the server and all its models take requests."""
    url = f"http://{options.host}:{options.http_port}/v2/health/ready"
    try:
        with urllib.request.urlopen(url, timeout=1) as response:
            return response.status == 200
    except (urllib.error.URLError, OSError):
        return False


def _arguments(options: ServerOptions) -> list[str]:
    given = dataclasses.asdict(options).items()
    flags = {f"--{name.replace('_', '-')}": value for name, value in given}
    return [
        name if value is True else f"{name}={value}"
        for name, value in flags.items()
        if value is not None and value is not False
    ]


def log_file(installation: Installation, grpc_port: int) -> Path:
    """Where a server that `start` began writes, unless it was told otherwise."""
    return installation.home / "run" / f"{grpc_port}.log"


def _pid_file(installation: Installation, grpc_port: int) -> Path:
    return installation.home / "run" / f"{grpc_port}.pid"


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return False
    return state != "Z"


def tail(log: Path) -> str:
    """The last lines of a server's log."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-25:])
