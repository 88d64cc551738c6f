"""The export of one model, step by step: graphs, parity, manifest."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from mirrorme_engines.manifest import EngineSpec, Manifest
from mirrorme_model.avatar import AvatarModel
from mirrorme_model.model_weights import ModelWeights

from mirrorme_export.cpu_int8 import quantise_decoder
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
from mirrorme_export.session_player import load_samples
from mirrorme_export.staging import staged
from mirrorme_export.streamed_graphs import streamed_graphs

Step = Callable[[str], AbstractContextManager[None]]
"""Surrounds a step with its name, so that a person sees what is going on."""
Measure = Callable[[EngineGraph, Path, tuple[int, ...]], list[ParityRow]]
LARGE_BATCH_SIZES = (1,)
"""To compare at, where one call takes minutes."""


@dataclass(frozen=True)
class Export:
    """What is there after an export."""

    folder: Path
    manifest: Manifest
    parity: ParityReport


def export_model(
    model: AvatarModel | ModelWeights,
    target: Path,
    *,
    trained: bool,
    step: Step,
    max_batch_size: int = 8,
    other_steps: tuple[int, ...] = (),
    measure: Measure | None = measure_parity,
    calibration: Path | None = None,
) -> Export:
    """Writes engines, `manifest.json` and `parity.json` to the folder `target`, all or nothing.

    Args:
        model: in evaluation mode, or weights that are read for one engine after another.
        target: replaced if it is an earlier export.
        trained: False for random weights.
        step: told of each step.
        max_batch_size: of every engine.
        other_steps: numbers of steps of further denoisers.
        measure: compares an exported file with its graph. None: nothing is compared, and the report
            says so.
        calibration: folder of portraits and speech, with which a decoder in 8 bits is made for
            CPUs, unless it is too far from the one in float32. None: there is none.

    Raises:
        ParityError: an engine is off. The report is left at `failed_parity_path(target)`.
        InvalidRequest, UnexportableGraph: nothing was written.
    """
    failed = failed_parity_path(target)
    sizes = LARGE_BATCH_SIZES if isinstance(model, ModelWeights) else BATCH_SIZES
    batch_sizes = tuple(size for size in sizes if size <= max_batch_size)
    with staged(target) as folder:
        specs: list[EngineSpec] = []
        rows: list[ParityRow] = []
        for graph in _graphs(model, other_steps):
            path = folder / engine_file(graph.name)
            with step(f"export {graph.name}"):
                write_onnx(graph, path)
                specs.append(describe_engine(graph, folder, max_batch_size))
            if measure is not None:
                with step(f"compare {graph.name}"):
                    rows += measure(graph, path, batch_sizes)
            # Before the next one is made: they may be large.
            del graph
        not_compared = () if measure else tuple(spec.name for spec in specs)
        report = ParityReport(tuple(rows), not_compared)
        if not report.passed:
            report.save(failed)
            raise ParityError(report, failed)
        with step("write manifest"):
            weights_sha256 = (
                model.weights_sha256() if isinstance(model, AvatarModel) else model.sha256()
            )
            manifest = describe_model(
                model.config, weights_sha256, trained=trained, engines=tuple(specs)
            )
            manifest.save(folder)
        if calibration is not None:
            with step("quantise decoder for CPUs"):
                samples = load_samples(calibration, manifest)
                manifest, int8 = quantise_decoder(folder, manifest, samples)
                manifest.save(folder)
                report = dataclasses.replace(report, int8=int8)
        report.save(folder / PARITY_FILE)
    failed.unlink(missing_ok=True)
    return Export(target, manifest, report)


def _graphs(
    model: AvatarModel | ModelWeights, other_steps: tuple[int, ...]
) -> Iterable[EngineGraph]:
    if isinstance(model, ModelWeights):
        return streamed_graphs(model, other_steps)
    return engine_graphs(model, other_steps)


def failed_parity_path(target: Path) -> Path:
    """Where the report of a failed export lies: beside the target, which stays as it was."""
    return target.with_name(f"{target.name}-{PARITY_FILE}")
