"""The export of one model, step by step: graphs, parity, manifest."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from mirrorme_engines.manifest import EngineSpec, Manifest
from mirrorme_model.avatar import AvatarModel

from mirrorme_export.describe import describe_engine, describe_model, engine_file
from mirrorme_export.engine_graphs import EngineGraph, engine_graphs
from mirrorme_export.errors import ParityError
from mirrorme_export.onnx_file import write_onnx
from mirrorme_export.parity import (
    BATCH_SIZES,
    PARITY_FILE,
    ParityReport,
    ParityRow,
    measure_parity,
)
from mirrorme_export.staging import staged

Step = Callable[[str], AbstractContextManager[None]]
"""Surrounds a step with its name, so that a person sees what is going on."""


@dataclass(frozen=True)
class Export:
    """What is there after an export."""

    folder: Path
    manifest: Manifest
    parity: ParityReport


def export_model(
    model: AvatarModel,
    target: Path,
    *,
    trained: bool,
    step: Step,
    max_batch_size: int = 8,
    other_steps: tuple[int, ...] = (),
    measure: Callable[[EngineGraph, Path, tuple[int, ...]], list[ParityRow]] = measure_parity,
) -> Export:
    """Writes engines, `manifest.json` and `parity.json` to the folder `target`, all or nothing.

    Args:
        model: in evaluation mode.
        target: replaced if it is an earlier export.
        trained: False for random weights.
        step: told of each step.
        max_batch_size: of every engine.
        other_steps: numbers of steps of further denoisers.
        measure: compares an exported file with its graph.

    Raises:
        ParityError: an engine is off. The report is left at `failed_parity_path(target)`.
        InvalidRequest, UnexportableGraph: nothing was written.
    """
    failed = failed_parity_path(target)
    batch_sizes = tuple(size for size in BATCH_SIZES if size <= max_batch_size)
    with staged(target) as folder:
        specs: list[EngineSpec] = []
        rows: list[ParityRow] = []
        for graph in engine_graphs(model, other_steps):
            path = folder / engine_file(graph.name)
            with step(f"export {graph.name}"):
                write_onnx(graph, path)
                specs.append(describe_engine(graph, folder, max_batch_size))
            with step(f"compare {graph.name}"):
                rows += measure(graph, path, batch_sizes)
        report = ParityReport(tuple(rows))
        if not report.passed:
            report.save(failed)
            raise ParityError(report, failed)
        with step("write manifest"):
            manifest = describe_model(model, trained=trained, engines=tuple(specs))
            report.save(folder / PARITY_FILE)
            manifest.save(folder)
    failed.unlink(missing_ok=True)
    return Export(target, manifest, report)


def failed_parity_path(target: Path) -> Path:
    """Where the report of a failed export lies: beside the target, which stays as it was."""
    return target.with_name(f"{target.name}-{PARITY_FILE}")
