"""What building the plans of a preset cost and gave: JSON for machines, a table for people."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

from mirrorme_engines.tensorrt_plan import PlanFacts
from rich import box
from rich.table import Table

from mirrorme_export.tensorrt_fp8 import Fp8Choice


@dataclass(frozen=True)
class PlanRow:
    """One engine."""

    engine: str
    file: str
    precision_level: str
    """What was lowered; see `precision_graph`."""
    precision_error: float | None
    """Of the chosen level, as measured in ONNX Runtime; None where nothing was lowered."""
    fp8: Fp8Choice | None
    """What is in FP8, and what that costs; None where nothing is."""
    onnx_bytes: int
    plan_bytes: int
    from_cache: bool
    seconds: float
    facts: PlanFacts
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class TensorRTReport:
    """All engines of a preset."""

    target: str
    version: str
    architecture: str
    device: str
    precision: str
    peak_host_bytes: int
    """Most memory that the process held until the report was made."""
    rows: tuple[PlanRow, ...]

    def save(self, folder: Path) -> Path:
        """Writes `<target>-<architecture>.json` into the preset's folder."""
        path = folder / f"{self.target}-{self.architecture}.json"
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(dataclasses.asdict(self), indent=2) + "\n")
        partial.replace(path)
        return path

    def table(self) -> Table:
        """One line an engine."""
        where = f"{self.architecture}{f' ({self.device})' if self.device else ''}"
        table = Table(
            title=f"{self.target} {self.version} for {where}, {self.precision}", box=box.SIMPLE
        )
        table.add_column("engine", no_wrap=True)
        for name in ("lowered", "error", "layers", "plan", "memory", "time"):
            table.add_column(name, justify="right", no_wrap=True)
        for row in self.rows:
            table.add_row(*_cells(row))
        table.caption = f"the build held {self.peak_host_bytes / 1e9:.1f} GB at most"
        return table

    def fp8_table(self) -> Table | None:
        """One line a way to compute a denoiser; None if none is in FP8."""
        chosen = [(row.engine, row.fp8) for row in self.rows if row.fp8 is not None]
        if not chosen:
            return None
        table = Table(title="latents and frames against fp32, in ONNX Runtime", box=box.SIMPLE)
        for name in ("engine", "computed in"):
            table.add_column(name, no_wrap=True)
        for name in ("products", "error", "PSNR"):
            table.add_column(name, justify="right", no_wrap=True)
        for engine, choice in chosen:
            for row in choice.rows:
                products = str(row.num_products or "-")
                error, psnr = f"{row.latents_error:.1e}", f"{row.psnr_db:.1f} dB"
                table.add_row(engine, row.name, products, error, psnr)
        return table


def _cells(row: PlanRow) -> tuple[str, ...]:
    facts = row.facts
    fused = "" if facts.num_engine_layers is None else f" → {facts.num_engine_layers}"
    memory_bytes = facts.device_memory_bytes
    return (
        row.engine,
        row.precision_level,
        "-" if row.precision_error is None else f"{row.precision_error:.1e}",
        f"{facts.num_network_layers}{fused}",
        f"{row.plan_bytes / 1e6:.1f} MB",
        "-" if memory_bytes is None else f"{memory_bytes / 1e6:.0f} MB",
        "cached" if row.from_cache else f"{facts.build_s:.1f} s",
    )
