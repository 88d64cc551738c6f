"""What a person sees of an export: tables."""

from __future__ import annotations

from rich.table import Table

from mirrorme_export.cpu_int8 import Int8Report
from mirrorme_export.exporter import Export
from mirrorme_export.parity import ParityReport


def parity_table(report: ParityReport) -> Table:
    """One line an output, one column a batch size."""
    batch_sizes = list(dict.fromkeys(row.batch_size for row in report.rows))
    table = Table(title="largest error, ONNX Runtime against torch")
    table.add_column("engine", no_wrap=True)
    for size in batch_sizes:
        table.add_column(f"batch {size}", justify="right", no_wrap=True)
    table.add_column("joined", justify="right", no_wrap=True)
    table.add_column("allowed", justify="right", no_wrap=True)
    for outputs in dict.fromkeys((row.engine, row.output) for row in report.rows):
        rows = [row for row in report.rows if (row.engine, row.output) == outputs]
        limit = rows[0].limit
        errors = [*(row.max_abs_error for row in rows), max(row.joined_error for row in rows)]
        table.add_row(outputs[0], *(_error_cell(error, limit) for error in errors), f"{limit:g}")
    table.caption = "joined: a row of a batch against the same row alone"
    return table


def _error_cell(error: float, limit: float) -> str:
    return f"[{'green' if error <= limit else 'bold red'}]{error:.1e}[/]"


def engine_table(export: Export) -> Table:
    """One line an engine."""
    table = Table(title=str(export.folder))
    table.add_column("engine", no_wrap=True)
    table.add_column("size", justify="right", no_wrap=True)
    table.add_column("makes")
    for spec in export.manifest.engines:
        files = (export.folder / spec.file).parent.iterdir()
        size_bytes = sum(file.stat().st_size for file in files)
        table.add_row(
            spec.name,
            f"{size_bytes / 1e6:.1f} MB",
            ", ".join(f"{tensor.name} {list(tensor.dims)}" for tensor in spec.outputs),
        )
    return table


def int8_line(report: Int8Report) -> str:
    """Whether CPUs run 8 bits."""
    found = f"{report.psnr_db:.1f} dB from float32 (at least {report.limit_db:g})"
    if report.passed:
        return f"{report.engine} in 8 bits for CPUs: {found}"
    return (
        f"[bold yellow]{report.engine} in 8 bits is {found}, rows of a batch differ by "
        f"{report.joined_error:g} levels: CPUs run float32.[/]"
    )
