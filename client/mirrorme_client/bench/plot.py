"""Pictures of load tests: how the measures are distributed, a curve for each number of sessions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mirrorme_client.bench.figures import Objective
from mirrorme_client.bench.load import Run
from mirrorme_client.errors import UnwritableOutput

_SIZE_IN = (11, 7)


def write_plot(path: Path, runs: Sequence[Run], objective: Objective) -> None:
    """Writes a PNG, SVG or PDF, by the name's ending.

    Raises:
        UnwritableOutput: the file cannot be written.
    """
    from matplotlib.figure import Figure  # of the `bench` extra

    figure = Figure(figsize=_SIZE_IN, layout="constrained")
    panels = (
        ("first_frame_ms", "first frame beyond the algorithmic latency", "first_frame_p95_ms"),
        ("jitter_ms", "jitter between frames", "jitter_p99_ms"),
        ("lateness_ms", "lateness of frames", None),
        ("barge_in_ms", "barge-in: last stale frame after the interrupt", "barge_in_p99_ms"),
    )
    for axes, (name, title, limit) in zip(figure.subplots(2, 2).flat, panels, strict=True):
        for run in runs:
            values = np.sort(getattr(run.figures, name).values)
            share = np.arange(1, len(values) + 1) / max(1, len(values))
            holds = "" if run.holds else " (not held)"
            axes.step(values, share, where="post", label=f"{run.figures.num_sessions}{holds}")
        if limit is not None:
            axes.axvline(getattr(objective, limit), color="0.3", linestyle="--", linewidth=1)
        axes.set(title=title, xlabel="ms", ylabel="share of all", ylim=(0, 1.02))
        axes.grid(alpha=0.3)
    figure.axes[1].legend(title="sessions", loc="lower right")
    try:
        figure.savefig(path)
    except (OSError, ValueError) as error:
        raise UnwritableOutput(f"cannot write the plot {path}: {error}") from error
