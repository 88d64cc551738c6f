#!/usr/bin/env python3
"""Installs a real Triton server for machines without a GPU, and starts and stops it.

The server comes from the `nvidia-pytriton` wheel (Triton 2.51 with the Python backend) in a virtual
environment of its own under `.triton/`. Production runs NVIDIA's container instead: this script is
for development, tests and CI. It needs nothing but the standard library.

    triton_server.py install
    triton_server.py run   --models engines/repository/demo --grpc-port 8001
    triton_server.py start --models engines/repository/demo --grpc-port 8001
    triton_server.py stop  --grpc-port 8001
"""

from __future__ import annotations

import argparse
import dataclasses
import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = Path(__file__).with_name("requirements.txt")
DEFAULT_HOME = ROOT / ".triton"
SHARED_MEMORY = Path("/dev/shm")


class ServerError(Exception):
    """The server cannot be installed, started or stopped; the message says why."""


@dataclass(frozen=True)
class Installation:
    """Where the server lies: an environment, and backends with the stub of its Python version."""

    home: Path

    @property
    def python(self) -> Path:
        """The interpreter that models run in."""
        return self.home / "venv/bin/python"

    @property
    def packages(self) -> Path:
        """The environment's packages."""
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        return self.home / "venv/lib" / version / "site-packages"

    @property
    def binary(self) -> Path:
        """The server."""
        return self.packages / "pytriton/tritonserver/bin/tritonserver"

    @property
    def backends(self) -> Path:
        """The wheel's backends, completed by the stub."""
        return self.home / "backends"

    @property
    def stamp(self) -> Path:
        """Names the requirements and the Python that the installation was made of."""
        return self.home / "installed"

    @property
    def libraries(self) -> str:
        """Value of LD_LIBRARY_PATH: the wheel's libraries, and libpython for the stub."""
        folders = [str(self.packages / "nvidia_pytriton.libs"), sysconfig.get_config_var("LIBDIR")]
        return os.pathsep.join([*folders, *filter(None, [os.environ.get("LD_LIBRARY_PATH")])])

    def install(self) -> None:
        """Makes the installation, unless it is there and current. One process at a time."""
        self.home.mkdir(parents=True, exist_ok=True)
        with (self.home / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._install()

    def _install(self) -> None:
        want = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest() + sys.version
        if self.stamp.exists() and self.stamp.read_text() == want:
            return
        shutil.rmtree(self.home / "venv", ignore_errors=True)
        shutil.rmtree(self.backends, ignore_errors=True)
        self.stamp.unlink(missing_ok=True)
        _say(f"installing Triton under {self.home}")
        _check_call([sys.executable, "-m", "venv", self.home / "venv"])
        pip = [self.python, "-m", "pip", "--disable-pip-version-check", "--quiet", "install"]
        _check_call([*pip, "--no-deps", "--requirement", REQUIREMENTS])
        self._copy_backends()
        _check_call([self.python, "-c", "import numpy, onnxruntime"])
        self.stamp.write_text(want)

    def _copy_backends(self) -> None:
        triton = self.packages / "pytriton/tritonserver"
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        stub = triton / "python_backend_stubs" / version / "triton_python_backend_stub"
        if not stub.exists():
            versions = sorted(folder.name for folder in stub.parents[1].iterdir())
            raise ServerError(
                f"Triton's Python backend has no stub for Python {version}, only for "
                f"{', '.join(versions)}: run this script with one of them"
            )
        shutil.copytree(triton / "backends", self.backends)
        shutil.copy2(stub, self.backends / "python/triton_python_backend_stub")

    def known_flags(self) -> set[str]:
        """The flags that this server takes; they differ between versions."""
        text = subprocess.run(
            [self.binary, "--help"], env=self.environment(1), capture_output=True, text=True
        )
        words = (text.stdout + text.stderr).split()
        flags = {word for word in words if word.startswith("--")}
        if "--model-repository" not in flags:
            raise ServerError(f"{self.binary} does not run: {(text.stdout + text.stderr).strip()}")
        return flags

    def environment(self, num_threads: int) -> dict[str, str]:
        """The server's environment; its stubs find Python and the packages by it."""
        return {
            **{key: value for key, value in os.environ.items() if not key.startswith("PYTHON")},
            "LD_LIBRARY_PATH": self.libraries,
            "PATH": f"{self.python.parent}{os.pathsep}{os.environ.get('PATH', '')}",
            "PYTHONPATH": str(self.packages),
            "PYTHONDONTWRITEBYTECODE": "1",
            "OMP_NUM_THREADS": str(num_threads),
        }


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

    @property
    def region_prefix(self) -> str:
        """Of the shared memory between the server and its Python backend."""
        return f"mirrorme_triton_{self.grpc_port}_"

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
            f"--backend-config=python,shm-region-prefix-name={self.region_prefix}",
            "--backend-config=python,shm-default-byte-size=16777216",
            "--backend-config=python,shm-growth-byte-size=16777216",
        ]


def run(installation: Installation, options: ServerOptions) -> None:
    """Becomes the server: returns only when it cannot be started."""
    installation.install()
    command, environment = prepare(installation, options)
    if options.cpu is not None:
        os.sched_setaffinity(0, {options.cpu})
    if options.log is not None:
        descriptor = os.open(options.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
    os.execve(command[0], command, environment)


def prepare(installation: Installation, options: ServerOptions) -> tuple[list[str], dict[str, str]]:
    """Command line and environment of a server; frees what a killed one on these ports left."""
    if not (options.models / "manifest.json").exists():
        raise ServerError(f"no {options.models}/manifest.json: run `make export` first")
    if not any(options.models.glob("*/config.pbtxt")):
        raise ServerError(
            f"{options.models} holds no config.pbtxt: export it for Triton first "
            "(mirrorme-export triton)"
        )
    for region in SHARED_MEMORY.glob(f"{options.region_prefix}*"):
        region.unlink(missing_ok=True)
    flags = [
        *options.flags(installation.known_flags()),
        f"--backend-directory={installation.backends}",
    ]
    num_threads = 1 if options.cpu is not None else (os.cpu_count() or 1)
    return [str(installation.binary), *flags], installation.environment(num_threads)


def start(installation: Installation, options: ServerOptions, timeout_s: float) -> int:
    """Starts a server in the background and waits until it is ready. Returns its process id."""
    pid_file = _pid_file(installation, options.grpc_port)
    if pid_file.exists() and _alive(int(pid_file.read_text())):
        raise ServerError(f"port {options.grpc_port}: a server runs already: stop it first")
    installation.install()
    folder = installation.home / "run"
    folder.mkdir(exist_ok=True)
    log = options.log or folder / f"{options.grpc_port}.log"
    command = [sys.executable, __file__, "--home", installation.home, "run", *_arguments(options)]
    with log.open("wb") as output:
        process = subprocess.Popen(
            list(map(str, command)), stdout=output, stderr=output, start_new_session=True
        )
    pid_file.write_text(str(process.pid))
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if process.poll() is not None:
            pid_file.unlink()
            raise ServerError(f"the server ended with status {process.returncode}:\n{_tail(log)}")
        if ready(options):
            return process.pid
        time.sleep(0.1)
    stop(installation, options.grpc_port, timeout_s=5)
    raise ServerError(f"the server was not ready within {timeout_s:g} s:\n{_tail(log)}")


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
    return [f"--{k.replace('_', '-')}={v}" for k, v in given if v is not None]


def _pid_file(installation: Installation, grpc_port: int) -> Path:
    return installation.home / "run" / f"{grpc_port}.pid"


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return False
    return state != "Z"


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-25:])


def _check_call(command: list[str | Path]) -> None:
    result = subprocess.run(list(map(str, command)))
    if result.returncode:
        raise ServerError(f"`{' '.join(map(str, command))}` ended with {result.returncode}")


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="A Triton server for machines without a GPU.")
    parser.add_argument("--home", type=Path, default=DEFAULT_HOME, help="where it is installed")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("install", help="install the server, if it is not there yet")
    for name, text in (("run", "run a server"), ("start", "start one in the background")):
        command = commands.add_parser(name, help=text)
        command.add_argument("--models", type=Path, required=True, help="an exported preset")
        command.add_argument("--grpc-port", type=int, default=8001)
        command.add_argument("--http-port", type=int, help="default: the gRPC port + 1000")
        command.add_argument("--metrics-port", type=int, help="default: the gRPC port + 2000")
        command.add_argument("--host", default="127.0.0.1")
        command.add_argument("--cpu", type=int, help="the one core that the server may use")
        command.add_argument("--log", type=Path, help="a file for the server's log")
        command.add_argument("--timeout-s", type=float, default=120, help="to wait for readiness")
    command = commands.add_parser("stop", help="stop a server that `start` began")
    command.add_argument("--grpc-port", type=int, default=8001)
    command.add_argument("--timeout-s", type=float, default=20, help="before it is killed")
    return parser


def main() -> int:
    """The command line."""
    arguments = _parser().parse_args()
    installation = Installation(arguments.home.resolve())
    try:
        match arguments.command:
            case "install":
                installation.install()
            case "stop":
                if not stop(installation, arguments.grpc_port, arguments.timeout_s):
                    _say(f"port {arguments.grpc_port}: no server was started from here")
            case "run":
                run(installation, _options(arguments))
            case "start":
                pid = start(installation, _options(arguments), arguments.timeout_s)
                _say(f"Triton serves gRPC on {arguments.host}:{arguments.grpc_port}, process {pid}")
    except ServerError as error:
        _say(str(error))
        return 1
    return 0


def _options(arguments: argparse.Namespace) -> ServerOptions:
    return ServerOptions(
        models=arguments.models,
        grpc_port=arguments.grpc_port,
        http_port=arguments.http_port or arguments.grpc_port + 1000,
        metrics_port=arguments.metrics_port or arguments.grpc_port + 2000,
        host=arguments.host,
        cpu=arguments.cpu,
        log=arguments.log,
    )


if __name__ == "__main__":
    sys.exit(main())
