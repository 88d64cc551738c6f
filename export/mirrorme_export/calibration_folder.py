"""Where the portraits and the speech are that engines of few bits are calibrated with."""

from __future__ import annotations

from pathlib import Path

EXAMPLES = Path("examples")


def calibration_folder(given: Path | None) -> Path | None:
    """The one that is given; otherwise the repository's examples, where they are."""
    return given or (EXAMPLES if EXAMPLES.is_dir() else None)
