"""What can go wrong with an export, named by what the caller can do about it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mirrorme_export.parity import ParityReport


class ExportError(Exception):
    """Base of all export errors. Nothing was changed at the target."""


class InvalidRequest(ExportError):
    """The options do not fit each other, the checkpoint, or the target. Call again, corrected."""


class ParityError(ExportError):
    """An exported engine computes something else than the model.

    `report` says which; it was written to `path`.
    """

    def __init__(self, report: ParityReport, path: Path) -> None:
        engines = dict.fromkeys(row.engine for row in report.rows if not row.passed)
        super().__init__(
            f"{', '.join(engines)} and torch differ by more than is allowed; see {path}"
        )
        self.report = report
        self.path = path


class UnexportableGraph(ExportError):
    """torch could not turn a graph into ONNX."""
