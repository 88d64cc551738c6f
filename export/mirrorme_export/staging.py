"""A folder that appears whole or not at all."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from mirrorme_engines.manifest import MANIFEST_FILE

from mirrorme_export.errors import InvalidRequest


@contextlib.contextmanager
def staged(target: Path) -> Iterator[Path]:
    """Gives an empty folder beside `target` that takes its place when the block ends well.

    When the block raises, the target stays as it was and the folder is removed.

    Raises:
        InvalidRequest: the target is there and is no export, or its parent cannot be written.
    """
    if target.exists() and not _is_replaceable(target):
        raise InvalidRequest(
            f"{target} is there and holds no {MANIFEST_FILE}: it is not replaced; "
            "choose another --output, or remove it"
        )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise InvalidRequest(f"{target.parent} cannot be written: {error.strerror}") from error
    try:
        yield folder
        folder.chmod(0o755)
        _swap(folder, target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _is_replaceable(target: Path) -> bool:
    if not target.is_dir():
        return False
    return (target / MANIFEST_FILE).exists() or not any(target.iterdir())


def _swap(folder: Path, target: Path) -> None:
    if not target.exists():
        folder.rename(target)
        return
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.old.", dir=target.parent) as old:
        kept = target.rename(Path(old) / target.name)
        try:
            folder.rename(target)
        except OSError:
            kept.rename(target)
            raise
