"""Names the machine a figure was measured on, and writes figures to a results file."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

RESULTS = Path(__file__).parent / "results"
MAX_BUSY_CORES = 0.2


def describe_machine() -> dict[str, Any]:
    """Processor, cores, memory, operating system and the packages that matter for speed."""
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": _processor(),
        "num_cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory_bytes / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": {name: version(name) for name in ("onnxruntime", "grpcio", "numpy")},
    }


def busy_cores() -> float:
    """Cores that all programs together use now, measured over a second."""
    before, start_s = _cpu_seconds(), time.perf_counter()
    time.sleep(1)
    return (_cpu_seconds() - before) / (time.perf_counter() - start_s)


class StolenTime:
    """What the host of a virtual machine takes of its cores' time from now on."""

    def __init__(self) -> None:
        self._start_s, self._before_s = time.perf_counter(), psutil.cpu_times().steal

    def share(self) -> float:
        """Of the time that all cores have had since."""
        wall_s = time.perf_counter() - self._start_s
        stolen_s = psutil.cpu_times().steal - self._before_s
        return stolen_s / (wall_s * (psutil.cpu_count() or 1))


def refuse_if_busy(cores: float) -> None:
    """Ends the program if so many cores were in use before it measured: its figures say nothing."""
    if cores > MAX_BUSY_CORES:
        sys.exit(f"not written: other programs took {cores:.1f} cores before the measurement")


def write_results(name: str, figures: dict[str, Any]) -> Path:
    """Writes `results/<name>.json` with the machine, the commit and the date beside the figures."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    document = {
        "measured_at": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": _commit(),
        "machine": describe_machine(),
        **figures,
    }
    path.write_text(json.dumps(document, indent=2) + "\n")
    return path


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def _cpu_seconds() -> float:
    """Of all programs since the machine started: user, nice and system time."""
    times = psutil.cpu_times()
    return times.user + times.nice + times.system


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
