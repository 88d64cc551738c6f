"""Steps with their times, as a person sees them. Imports no torch: plans are built without it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from rich.console import Console


class StepPrinter:
    """Prints each step with its time; on a terminal, a spinner while it runs."""

    def __init__(self, console: Console) -> None:
        self._console = console

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Surrounds one step."""
        start_s = time.monotonic()
        if not self._console.is_terminal:
            self._console.print(f"… {name}", highlight=False)
        with self._console.status(name):
            yield
        elapsed_s = time.monotonic() - start_s
        self._console.print(f"[green]✓[/] {name:<32}{elapsed_s:>7.1f} s", highlight=False)
