"""TensorRT's progress, as lines of text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Progress = Callable[[str], None]
"""Told the phase and how far it is; called from TensorRT's threads."""


def progress_monitor(trt: Any, progress: Progress) -> Any:
    """An `IProgressMonitor` of the given module."""

    class Monitor(trt.IProgressMonitor):
        """Follows the outermost phase; the inner ones come and go too fast to read."""

        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self._num_steps: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            """A phase begins."""
            if parent_phase is None:
                self._num_steps[phase_name] = num_steps
                progress(phase_name)

        def step_complete(self, phase_name: str, step: int) -> bool:
            """A step of a phase ends. False would stop the build."""
            if (num_steps := self._num_steps.get(phase_name)) is not None:
                progress(f"{phase_name} {step + 1}/{num_steps}")
            return True

        def phase_finish(self, phase_name: str) -> None:
            """A phase ends."""
            self._num_steps.pop(phase_name, None)

    return Monitor()
