"""Writes an evaluation as JSON, and its table into the documentation."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from machine import describe_machine

from evaluation.report import markdown_table
from evaluation.row import Row

_BEGIN, _END = "<!-- figures -->", "<!-- end of figures -->"


def write_evaluation(
    path: Path, model: Mapping[str, Any], run: Mapping[str, Any], rows: Sequence[Row]
) -> Path:
    """All rows with the model, the machine, the commit and the date."""
    document = {
        "measured_at": _now(),
        "machine": describe_machine(),
        "model": model,
        "run": run,
        "rows": [row.to_json() for row in rows],
    }
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    return path


def update_document(
    path: Path, model: Mapping[str, Any], run: Mapping[str, Any], rows: Sequence[Row]
) -> Path:
    """Replaces what stands between two marks of the page."""
    text = path.read_text()
    before, rest = text.split(_BEGIN)
    _, after = rest.split(_END)
    trained = "trained" if model["trained"] else "random weights"
    head = (
        f"{_now()}, preset {model['preset']}, weights {model['weights_sha256'][:12]} ({trained}), "
        f"{run['scale']} evaluation, {run['minutes']} minutes."
    )
    path.write_text(f"{before}{_BEGIN}\n{head}\n\n{markdown_table(rows)}\n{_END}{after}")
    return path


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
