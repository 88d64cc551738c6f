"""The parity report: each exported engine against its torch graph, at several batch sizes."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray

from mirrorme_export.engine_graphs import EngineGraph

PARITY_FILE = "parity.json"
BATCH_SIZES = (1, 2, 3, 8)
MAX_FLOAT_ERROR = 1e-3
MAX_LEVEL_ERROR = 1
"""Of uint8 outputs."""


@dataclass(frozen=True)
class ParityRow:
    """One output of one engine at one batch size."""

    engine: str
    output: str
    batch_size: int
    max_abs_error: float
    """Infinite where shapes or types differ, or where either side is not a number."""
    mean_abs_error: float
    max_abs_value: float
    """Of torch's output, to see the errors in proportion."""
    limit: float

    @property
    def passed(self) -> bool:
        """Within the limit."""
        return self.max_abs_error <= self.limit


@dataclass(frozen=True)
class ParityReport:
    """All rows of an export."""

    rows: tuple[ParityRow, ...]

    @property
    def passed(self) -> bool:
        """All rows are within their limits."""
        return all(row.passed for row in self.rows)

    def save(self, path: Path) -> None:
        """Writes the report as JSON."""
        rows = [
            {key: _finite(value) for key, value in dataclasses.asdict(row).items()}
            | {"passed": row.passed}
            for row in self.rows
        ]
        document = {"passed": self.passed, "rows": rows}
        path.write_text(json.dumps(document, indent=2, allow_nan=False) + "\n")


def measure_parity(
    graph: EngineGraph, path: Path, batch_sizes: tuple[int, ...] = BATCH_SIZES
) -> list[ParityRow]:
    """Runs torch and ONNX Runtime, on the CPU, on the same random inputs."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    rows: list[ParityRow] = []
    for batch_size in batch_sizes:
        # Seeds other than the example's, so that nothing that was baked in can agree by chance.
        inputs = graph.example_inputs(batch_size, 1000 + batch_size)
        feed = {
            name: tensor.numpy() for name, tensor in zip(graph.input_names, inputs, strict=True)
        }
        results = session.run(list(graph.output_names), feed)
        for name, want, got in zip(graph.output_names, graph.run(inputs), results, strict=True):
            rows.append(_compare(graph.name, name, batch_size, want, np.asarray(got)))
    return rows


def _compare(
    engine: str, output: str, batch_size: int, want: torch.Tensor, got: NDArray[np.generic]
) -> ParityRow:
    expected = want.numpy()
    limit = MAX_LEVEL_ERROR if expected.dtype == np.uint8 else MAX_FLOAT_ERROR
    if got.shape != expected.shape or got.dtype != expected.dtype:
        return ParityRow(engine, output, batch_size, np.inf, np.inf, 0.0, limit)
    error = np.abs(expected.astype(np.float64) - got.astype(np.float64))
    error = np.where(np.isfinite(error), error, np.inf)
    return ParityRow(
        engine,
        output,
        batch_size,
        max_abs_error=float(error.max()),
        mean_abs_error=float(error.mean()),
        max_abs_value=float(np.abs(expected.astype(np.float64)).max()),
        limit=limit,
    )


def _finite(value: object) -> object:
    """JSON has no infinity."""
    return str(value) if isinstance(value, float) and not np.isfinite(value) else value
