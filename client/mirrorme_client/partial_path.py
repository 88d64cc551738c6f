"""Output that is either complete or not there."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from types import TracebackType
from typing import Self

from mirrorme_client.errors import UnwritableOutput


class PartialPath:
    """A name beside the target to write to; renamed to the target at the end, or removed.

    In a `with`, leaving without an exception renames, leaving with one removes. The name starts
    with a dot and holds the process id, so that two runs do not meet.
    """

    def __init__(self, target: Path) -> None:
        self.target = target
        self.path = target.with_name(f".{target.name}.{os.getpid()}.partial")

    def __enter__(self) -> Self:
        if not self.target.parent.is_dir():
            raise UnwritableOutput(f"cannot write {self.target}: no folder {self.target.parent}")
        if not os.access(self.target.parent, os.W_OK | os.X_OK):
            raise UnwritableOutput(f"cannot write {self.target}: the folder is not writable")
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if exc_type is None:
            self.keep()
        else:
            self.discard()

    def keep(self) -> None:
        """Puts what was written in the target's place."""
        try:
            self.path.replace(self.target)
        except OSError as error:
            self.discard()
            raise UnwritableOutput(f"cannot write {self.target}: {error.strerror}") from error

    def discard(self) -> None:
        """Removes what was written. Idempotent."""
        if self.path.is_dir():
            shutil.rmtree(self.path, ignore_errors=True)
        else:
            self.path.unlink(missing_ok=True)
