"""Measures the full-size export of `ltx-2b`: time, peak memory and sizes, step by step.

    python benchmarks/ltx_export.py --output /data/engines --compare audio_encoder

Writes 13 GB to a folder inside OUTPUT that is removed again, and results/ltx_export.json. Weights
are random unless --base and --wav2vec2 are given.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from machine import write_results
from mirrorme_export.engine_graphs import EngineGraph
from mirrorme_export.exporter import export_model
from mirrorme_export.parity import ParityRow, measure_parity
from mirrorme_export.streamed_graphs import streamed_graphs
from mirrorme_export.weights import PublishedFiles, Shape, large_random_model, published_weights
from mirrorme_model.model_weights import ModelWeights

GIB = 2**30


class StepMeter:
    """Time and peak resident memory of each step of this process."""

    def __init__(self) -> None:
        self.steps: list[dict[str, Any]] = []

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Surrounds one step."""
        # What was made since the last step: the engine's module, with its weights.
        before_gib = _take_peak_gib()
        start_s = time.monotonic()
        yield
        step = {
            "step": name,
            "seconds": round(time.monotonic() - start_s, 1),
            "peak_rss_gib": _take_peak_gib(),
            "peak_rss_before_gib": before_gib,
        }
        self.steps.append(step)
        print(step, flush=True)


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--output", type=Path, default=Path("engines"), help="with 15 GB of room")
    parser.add_argument("--base", type=Path)
    parser.add_argument("--wav2vec2", type=Path)
    parser.add_argument(
        "--compare", action="append", default=[], help="engine to compare with torch, or all"
    )
    parser.add_argument("--graphs-only", action="store_true", help="make modules, export nothing")
    options = parser.parse_args()
    shape = Shape()
    if options.base or options.wav2vec2:
        files = PublishedFiles(options.base, options.wav2vec2, no_adapter=True)
        weights = published_weights("ltx-2b", shape, files)
    else:
        weights = large_random_model("ltx-2b", shape, seed=0)

    if options.graphs_only:
        measure_graphs(weights)
        return

    def measure(graph: EngineGraph, path: Path, batches: tuple[int, ...]) -> list[ParityRow]:
        if not {graph.name, "all"} & set(options.compare):
            return []
        return measure_parity(graph, path, batches)

    meter = StepMeter()
    options.output.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix="ltx-export-", dir=options.output))
    try:
        export = export_model(
            weights, scratch / "ltx-2b", trained=weights.trained, step=meter, measure=measure
        )
        sizes = {
            spec.name: sum(f.stat().st_size for f in (export.folder / spec.file).parent.iterdir())
            for spec in export.manifest.engines
        }
    finally:
        shutil.rmtree(scratch)
    path = write_results(
        "ltx_export",
        {
            "weights": "published" if options.base else "random",
            "seconds": round(sum(step["seconds"] for step in meter.steps), 1),
            "peak_rss_gib": max(
                max(step["peak_rss_gib"], step["peak_rss_before_gib"]) for step in meter.steps
            ),
            "steps": meter.steps,
            "engine_bytes": sizes,
            "total_bytes": sum(sizes.values()),
            "parity": [
                {"engine": row.engine, "max_abs_error": row.max_abs_error, "limit": row.limit}
                for row in export.parity.rows
            ],
        },
    )
    print(path)


def measure_graphs(weights: ModelWeights) -> None:
    """Makes each engine's module, without exporting it."""
    peaks: dict[str, float] = {}
    _take_peak_gib()
    for graph in streamed_graphs(weights):
        peaks[graph.name] = _take_peak_gib()
        print(graph.name, peaks[graph.name], flush=True)
        del graph
    print(write_results("ltx_graphs", {"peak_rss_gib": peaks}))


def _take_peak_gib() -> float:
    """Peak resident memory since the last time."""
    peak_gib = round(_memory_bytes("VmHWM") / GIB, 2)
    Path("/proc/self/clear_refs").write_text("5")
    return peak_gib


def _memory_bytes(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return 1024 * int(line.split()[1])
    raise ValueError(f"/proc/self/status has no {field}")


if __name__ == "__main__":
    main()
