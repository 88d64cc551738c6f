"""Files that are read again when they change: keys, certificates, tokens.

Changes are looked for when the content is wanted, at the price of a `stat` a file; no task, no
thread. Mounted secrets, which are replaced by moving a link, are noticed as well.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

log = logging.getLogger(__name__)

_Content = TypeVar("_Content")
_Signature = tuple[tuple[int, int, int] | None, ...]


class WatchedFiles(Generic[_Content]):
    """What a few files hold together. May be asked from several threads.

    Args:
        paths: the files.
        read: makes the content of them; raises OSError or ValueError where they are not right.
        on_reload: told of each change: whether it could be read.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        read: Callable[[], _Content],
        on_reload: Callable[[bool], None] = lambda ok: None,
    ) -> None:
        """Reads the files. Raises what `read` raises."""
        self._paths = tuple(paths)
        self._read = read
        self._on_reload = on_reload
        self._lock = threading.Lock()
        self._signature = self._look()
        self._content = read()

    def content(self) -> _Content:
        """What the files hold now; what they held last, while they cannot be read."""
        signature = self._look()
        if signature != self._signature:
            with self._lock:
                if signature != self._signature:
                    self._signature = signature
                    self._reload()
        return self._content

    def _reload(self) -> None:
        names = ", ".join(map(str, self._paths))
        try:
            self._content = self._read()
        except (OSError, ValueError) as error:
            # Half of a pair may be new, and the other half come later: that is a change again.
            log.warning("%s changed, and what was there before stays in use: %s", names, error)
            self._on_reload(False)
        else:
            log.info("%s changed and is in use", names)
            self._on_reload(True)

    def _look(self) -> _Signature:
        return tuple(map(_signature, self._paths))


def _signature(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size
