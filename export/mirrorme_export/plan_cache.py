"""Plans that were built before, by what they were built of.

An entry is a plan, and its record, which is written last: what a killed builder leaves behind has
no record and is never served. Two builders of the same plan build it once.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from mirrorme_engines.errors import ManifestError
from mirrorme_engines.tensorrt_plan import (
    RECORD_FORMAT,
    PlanFacts,
    PlanRecord,
    PlanSource,
    check_bytes,
    file_sha256,
    record_path,
)

_PARTIAL = ".partial"


class PlanCache:
    """Owns a folder. Several processes may use it at once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def timing_cache(self, module: str, version: str, architecture: str) -> Path:
        """Where TensorRT's timings for a kind of GPU lie."""
        return self.folder / f"timing-{module}-{version}-{architecture}.bin"

    def precision_choice(self, engine_sha256: str, precision: str) -> Path:
        """Where the measured precision of an ONNX file lies."""
        return self.folder / f"precision-{engine_sha256}-{precision}.json"

    @contextlib.contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """Keeps other processes out; the lock of a killed one is free at once."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / f"{name}.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def find(self, source: PlanSource) -> tuple[Path, PlanRecord] | None:
        """The plan of a source, with its bytes checked; None if it is to be built."""
        plan = self._plan(source)
        try:
            record = PlanRecord.load(record_path(plan))
            check_bytes(plan, record)
        except ManifestError:
            return None
        return (plan, record) if record.source == source else None

    def put(self, source: PlanSource, plan: bytes, facts: PlanFacts) -> tuple[Path, PlanRecord]:
        """Keeps a new plan; the caller holds the lock of its key."""
        path = self._plan(source)
        record_path(path).unlink(missing_ok=True)
        write_durably(path, plan)
        record = PlanRecord(RECORD_FORMAT, source, file_sha256(path), len(plan), facts)
        record.save(record_path(path))
        return path, record

    def _plan(self, source: PlanSource) -> Path:
        return self.folder / f"{source.key}.plan"


def install_plan(cached: Path, record: PlanRecord, target: Path) -> None:
    """Puts a cached plan beside its engine: first the plan, then the record that vouches for it."""
    record_path(target).unlink(missing_ok=True)
    partial = target.with_name(target.name + _PARTIAL)
    partial.unlink(missing_ok=True)
    # A link would let one side damage the other.
    shutil.copyfile(cached, partial)
    partial.replace(target)
    record.save(record_path(target))


def write_durably(path: Path, data: bytes) -> None:
    """Writes a file that is there whole or not at all, also after a power cut."""
    partial = path.with_name(path.name + _PARTIAL)
    with partial.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
