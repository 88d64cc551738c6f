"""The parity report: each exported engine against its torch graph, at several batch sizes."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from mirrorme_engines.manifest import EXTERNAL_DATA_SUFFIX
from mirrorme_engines.silent_onnxruntime import onnxruntime as ort
from mirrorme_engines.silent_onnxruntime import ort_errors
from numpy.typing import NDArray

from mirrorme_export.cpu_int8 import Int8Report
from mirrorme_export.engine_graphs import EngineGraph

PARITY_FILE = "parity.json"
BATCH_SIZES = (1, 2, 3, 8)
MAX_FLOAT_ERROR = 1e-3
MAX_LEVEL_ERROR = 1
"""Of uint8 outputs."""
_ORT_ERRORS = (ort_errors.Fail, ort_errors.InvalidArgument, ort_errors.RuntimeException)


@dataclass(frozen=True)
class ParityRow:
    """One output of one engine at one batch size."""

    engine: str
    output: str
    batch_size: int
    max_abs_error: float
    """Infinite where shapes or types differ, either side is not a number, or the run failed."""
    mean_abs_error: float
    max_abs_value: float
    """Of torch's output, to see the errors in proportion."""
    joined_error: float
    """Largest difference, by ONNX Runtime, of a row in this batch from the same row run alone."""
    limit: float
    """Of `max_abs_error` and `joined_error`."""

    @property
    def passed(self) -> bool:
        """Within the limit."""
        return max(self.max_abs_error, self.joined_error) <= self.limit


@dataclass(frozen=True)
class ParityReport:
    """All rows of an export."""

    rows: tuple[ParityRow, ...]
    not_compared: tuple[str, ...] = ()
    """Engines that nobody looked at."""
    int8: Int8Report | None = None
    """Of the decoder in 8 bits; None: there is none."""

    @property
    def passed(self) -> bool:
        """All that was compared with torch is within its limits."""
        return all(row.passed for row in self.rows)

    def save(self, path: Path) -> None:
        """Writes the report as JSON."""
        rows = [
            {key: _finite(value) for key, value in dataclasses.asdict(row).items()}
            | {"passed": row.passed}
            for row in self.rows
        ]
        document: dict[str, object] = {"passed": self.passed, "rows": rows}
        if self.not_compared:
            document["not_compared"] = list(self.not_compared)
        if self.int8:
            document["int8"] = dataclasses.asdict(self.int8) | {"passed": self.int8.passed}
        path.write_text(json.dumps(document, indent=2, allow_nan=False) + "\n")


def measure_parity(
    graph: EngineGraph, path: Path, batch_sizes: tuple[int, ...] = BATCH_SIZES
) -> list[ParityRow]:
    """Runs torch, then ONNX Runtime, on the CPU, on the same random inputs.

    One after the other, so that the weights of large engines are in memory once.
    """
    # Seeds other than the example's, so that nothing that was baked in can agree by chance.
    calls = {size: graph.example_inputs(size, 1000 + size) for size in batch_sizes}
    by_torch = {
        size: [tensor.numpy() for tensor in graph.run(inputs)] for size, inputs in calls.items()
    }
    session = _open(path)
    rows: list[ParityRow] = []
    for batch_size, inputs in calls.items():
        wanted = by_torch[batch_size]
        joined = _run(session, graph, inputs)
        singles = [
            _run(session, graph, tuple(t[i : i + 1] for t in inputs))
            for i in range(batch_size)
            if batch_size > 1
        ] or [joined]
        for name, want, got, *alone in zip(
            graph.output_names, wanted, joined, *singles, strict=True
        ):
            error = _error(want, got)
            rows.append(
                ParityRow(
                    engine=graph.name,
                    output=name,
                    batch_size=batch_size,
                    max_abs_error=float(error.max()),
                    mean_abs_error=float(error.mean()),
                    max_abs_value=float(np.abs(want.astype(np.float64)).max()),
                    joined_error=float(_error(np.concatenate(alone), got).max()),
                    limit=MAX_LEVEL_ERROR if want.dtype == np.uint8 else MAX_FLOAT_ERROR,
                )
            )
    return rows


def _open(path: Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    if path.with_name(path.name + EXTERNAL_DATA_SUFFIX).exists():
        # Else every product copies its weights, once for each step that the sampler makes.
        options.add_session_config_entry("session.disable_prepacking", "1")
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _run(
    session: ort.InferenceSession, graph: EngineGraph, inputs: tuple[torch.Tensor, ...]
) -> list[NDArray[np.generic]]:
    feed = {name: tensor.numpy() for name, tensor in zip(graph.input_names, inputs, strict=True)}
    try:
        return [np.asarray(array) for array in session.run(list(graph.output_names), feed)]
    except _ORT_ERRORS:
        # No output is as wrong as a wrong one.
        return [np.empty(0)] * len(graph.output_names)


def _error(want: NDArray[np.generic], got: NDArray[np.generic]) -> NDArray[np.float64]:
    """Absolute, and infinite where there is nothing to compare."""
    if got.shape != want.shape or got.dtype != want.dtype:
        return np.full(1, np.inf)
    with np.errstate(invalid="ignore"):
        error = np.abs(want.astype(np.float64) - got.astype(np.float64))
    return np.where(np.isfinite(error), error, np.inf)


def _finite(value: object) -> object:
    """JSON has no infinity."""
    return str(value) if isinstance(value, float) and not np.isfinite(value) else value
