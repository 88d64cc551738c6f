"""`triton_server.py with`: servers that live as long as the command that they run beside."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.triton.triton_process import SCRIPT, TritonProcess

pytestmark = [pytest.mark.triton, pytest.mark.timeout(180)]

SERVED = """
import os, socket
for address in os.environ["MIRRORME_TRITON_ENDPOINTS"].split(","):
    host, port = address.split(":")
    socket.create_connection((host, int(port)), timeout=5).close()
    print(address)
assert os.environ["MIRRORME_PLATFORM"] == "triton"
"""
WAITING = """
import os, signal, time, sys
count = 0
def stop(number, frame):
    global count
    count += 1
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, stop)
print(os.environ["MIRRORME_TRITON_ENDPOINTS"], flush=True)
while not count:
    time.sleep(0.01)
time.sleep(0.5)
sys.exit(10 + count)
"""


def beside(models: Path, code: str, *flags: str) -> list[str]:
    command = [sys.executable, str(SCRIPT), "with", f"--models={models}", *flags, "--"]
    return [*command, sys.executable, "-c", code]


def serves(address: str) -> bool:
    host, _, port = address.partition(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0


@contextmanager
def begun(models: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A waiting command beside a server, in a group of its own, as a shell starts it."""
    with subprocess.Popen(
        beside(models, WAITING), stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert serves(address)
        yield process, address


def test_the_command_finds_its_servers(models: Path) -> None:
    ended = subprocess.run(
        beside(models, SERVED, "--servers=2"), capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    addresses = ended.stdout.split()
    assert len(set(addresses)) == 2
    assert not any(map(serves, addresses))


@pytest.mark.parametrize(("number", "to_group"), [(signal.SIGINT, True), (signal.SIGTERM, False)])
def test_signals_reach_the_command_once(
    models: Path, number: signal.Signals, to_group: bool
) -> None:
    """Ctrl-C goes to the whole group of a terminal, `kill` to one process."""
    with begun(models) as (process, address):
        (os.killpg if to_group else os.kill)(process.pid, number)
        assert process.wait(30) == 11
    assert not serves(address)


def test_a_failing_command_stops_the_server_and_says_so(models: Path) -> None:
    code = "import os, sys; print(os.environ['MIRRORME_TRITON_ENDPOINTS']); sys.exit(7)"
    ended = subprocess.run(beside(models, code), capture_output=True, text=True, check=False)
    assert ended.returncode == 7
    assert not serves(ended.stdout.strip())
    missing = subprocess.run(
        [*beside(models, "")[:-3], "no-such-command"], capture_output=True, text=True, check=False
    )
    assert missing.returncode == 1
    assert "no-such-command cannot be run: No such file" in missing.stderr


def test_a_server_that_cannot_start_is_explained(tmp_path: Path) -> None:
    ended = subprocess.run(beside(tmp_path, SERVED), capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "manifest.json: run `make export` first" in ended.stderr


def test_no_server_outlives_a_killed_script(models: Path) -> None:
    with begun(models) as (process, address):
        (command,) = (
            child for child in psutil.Process(process.pid).children() if "-c" in child.cmdline()
        )
        process.kill()
        deadline = time.monotonic() + 20
        while serves(address):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        command.kill()


def test_memory_of_a_killed_server_is_freed_by_the_next(models: Path, tmp_path: Path) -> None:
    first = TritonProcess(models, tmp_path / "first").start()
    left = set(Path("/dev/shm").glob(f"mirrorme_triton_*_{first.pid}_*"))
    assert left
    first.kill()
    second = TritonProcess(models, tmp_path / "second").start()
    assert not any(path.exists() for path in left)
    second.stop()
    assert not list(Path("/dev/shm").glob(f"mirrorme_triton_*_{second.pid}_*"))
