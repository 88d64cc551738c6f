"""Steps with their times, as a person sees them. Imports no torch: plans are built without it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from rich.console import Console
from rich.status import Status

LINE_EVERY_S = 20.0
"""Where there is no spinner."""


class StepPrinter:
    """Prints each step with its time; on a terminal, a spinner while it runs."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._status: Status | None = None
        self._name = ""
        self._told_s = 0.0

    def progress(self, text: str) -> None:
        """How far the step is, from any thread: beside the spinner, or a line now and then."""
        if self._console.is_terminal and self._status is not None:
            self._status.update(f"{self._name}: {text}")
        elif not self._console.is_terminal and time.monotonic() >= self._told_s + LINE_EVERY_S:
            self._told_s = time.monotonic()
            self._console.print(f"  {self._name}: {text}", highlight=False)

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Surrounds one step."""
        start_s = time.monotonic()
        if not self._console.is_terminal:
            self._console.print(f"… {name}", highlight=False)
        self._name, self._told_s = name, start_s
        with self._console.status(name) as self._status:
            yield
        elapsed_s = time.monotonic() - start_s
        self._console.print(f"[green]✓[/] {name:<32}{elapsed_s:>7.1f} s", highlight=False)
