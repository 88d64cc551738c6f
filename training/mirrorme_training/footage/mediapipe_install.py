"""The interpreter that has MediaPipe: made once, beside the environment that uses it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from mirrorme_training.footage.errors import FootageError

_REQUIREMENTS = Path(__file__).with_name("mediapipe-requirements.txt")
_NEWEST_PYTHON = (3, 12)
"""The wheel's last one."""
_SHOWN_LOG_LINES = 8


def default_folder() -> Path:
    """Inside of the environment that runs this: it goes away with it."""
    return Path(sys.prefix) / "mediapipe"


def mediapipe_python(folder: Path) -> Path:
    """Its interpreter.

    Raises:
        FootageError: nothing is installed there.
    """
    python = folder / "bin" / "python"
    if not (folder / _REQUIREMENTS.name).exists() or not python.exists():
        raise FootageError(
            f"{folder} has no MediaPipe: run `mirrorme-train install-mediapipe` once"
        )
    return python


def install(folder: Path, python: Path) -> None:
    """Makes the environment, from nothing if it is there half or of other versions.

    Raises:
        FootageError: what pip said, or why it was not asked.
    """
    stamp = folder / _REQUIREMENTS.name
    if stamp.exists() and stamp.read_text() == _REQUIREMENTS.read_text():
        return
    _check_version(python)
    if folder.exists():
        if not (folder / "pyvenv.cfg").exists():
            raise FootageError(f"{folder} is there and is no environment: choose another folder")
        shutil.rmtree(folder)
    _run(str(python), "-m", "venv", str(folder))
    _run(
        str(folder / "bin" / "python"),
        *("-m", "pip", "install", "--quiet", "--no-deps", "--requirement", str(_REQUIREMENTS)),
    )
    shutil.copyfile(_REQUIREMENTS, stamp)


def _check_version(python: Path) -> None:
    said = _run(str(python), "-c", "import sys; print(*sys.version_info[:2])").split()
    version = (int(said[0]), int(said[1]))
    if version > _NEWEST_PYTHON:
        raise FootageError(
            f"MediaPipe's wheel is for Python up to {_NEWEST_PYTHON[0]}.{_NEWEST_PYTHON[1]}, and "
            f"{python} is {version[0]}.{version[1]}: name another with --python"
        )


def _run(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except OSError as error:
        raise FootageError(f"{command[0]} does not run: {error}") from error
    except subprocess.CalledProcessError as error:
        said = "\n".join(error.stderr.strip().splitlines()[-_SHOWN_LOG_LINES:])
        raise FootageError(f"`{' '.join(command)}` failed:\n{said}") from error
    return done.stdout
