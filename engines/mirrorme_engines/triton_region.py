"""A piece of shared memory that a Triton server on the same machine reads and writes.

Its file's lock says that the owner lives: what a crashed process left can be told from what another
one uses, also across containers that share memory but not process ids.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import secrets
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

SHARED_MEMORY = Path("/dev/shm")
_PREFIX = "mirrorme_tensors_"


class Region:
    """Owns a file in shared memory and its mapping, until `close`."""

    def __init__(self, size_bytes: int, folder: Path = SHARED_MEMORY) -> None:
        """Makes the file with all its memory.

        Raises:
            OSError: there is no such folder, no permission, or no room.
        """
        self.name = f"{_PREFIX}{os.getpid()}_{secrets.token_hex(8)}"
        self.size_bytes = size_bytes
        self._path = folder / self.name
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._file = os.open(self._path, flags, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Memory that is short must show here: on a later write it would be a signal that kills.
            os.posix_fallocate(self._file, 0, size_bytes)
            self._map = mmap.mmap(self._file, size_bytes)
        except BaseException:
            self._remove_file()
            raise
        self._closed = False

    @property
    def key(self) -> str:
        """The name that the server opens it by."""
        return f"/{self.name}"

    def write(self, offset: int, array: NDArray[np.generic]) -> None:
        """Copies an array there, in C order."""
        place = np.frombuffer(self._map, array.dtype, array.size, offset).reshape(array.shape)
        np.copyto(place, array)

    def read(self, offset: int, dtype: np.dtype, shape: tuple[int, ...]) -> NDArray[np.generic]:
        """A copy of the array there."""
        array = np.empty(shape, dtype)
        place = np.frombuffer(self._map, dtype, array.size, offset)
        np.copyto(array.reshape(-1), place)
        return array

    def close(self) -> None:
        """Removes the name and the mapping; the server's own mapping stays. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._map.close()
        self._remove_file()

    def _remove_file(self) -> None:
        self._path.unlink(missing_ok=True)
        os.close(self._file)


def is_ours(name: str) -> bool:
    """Whether a gateway made a region of this name."""
    return name.startswith(_PREFIX)


def remove_orphans(folder: Path = SHARED_MEMORY) -> list[str]:
    """Removes regions whose owners have died; returns their names."""
    removed: list[str] = []
    for path in folder.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            file = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
                removed.append(path.name)
            finally:
                os.close(file)
    return removed
