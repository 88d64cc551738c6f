"""A Triton server of the `nvidia-pytriton` wheel, in a virtual environment of its own."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

REQUIREMENTS = Path(__file__).with_name("requirements.txt")


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
        say(f"installing Triton under {self.home}")
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


def say(text: str) -> None:
    """Tells the person at the terminal."""
    sys.stderr.write(text + "\n")


def _check_call(command: list[str | Path]) -> None:
    result = subprocess.run(list(map(str, command)))
    if result.returncode:
        raise ServerError(f"`{' '.join(map(str, command))}` ended with {result.returncode}")
