"""The table for people: in the terminal, as Markdown, as HTML."""

from __future__ import annotations

import html
from collections.abc import Sequence

from rich.table import Table

from evaluation.row import Row

_HEADS = ("", "measure", "bar", "made", "through the VAE", "rendered truth", "control")


def terminal_table(rows: Sequence[Row]) -> Table:
    """Green where a bar is reached, red where not."""
    table = Table(title="Evaluation", title_justify="left")
    for head in _HEADS:
        table.add_column(head)
    for row in rows:
        cells = _cells(row)
        color = {True: "green", False: "red", None: "default"}[row.passed]
        table.add_row(*cells[:3], f"[{color}]{cells[3]}[/]", *cells[4:])
    return table


def markdown_table(rows: Sequence[Row]) -> str:
    """The same, with a mark at bars that are not reached."""
    lines = ["| " + " | ".join(_HEADS) + " |", "|" + "---|" * len(_HEADS)]
    for row in rows:
        cells = _cells(row)
        cells[3] = f"**{cells[3]}** {_mark(row)}".strip() if row.bar else cells[3]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def markdown_definitions(rows: Sequence[Row]) -> str:
    """What each measure is; those of single controls once."""
    lines, seen = [], set()
    for row in rows:
        kind = "each control" if row.group == "controls" and row.bar == "≥ 0.7" else row.name
        if (row.group, kind) in seen:
            continue
        seen.add((row.group, kind))
        control = f" Control: {row.control_is}." if row.control_is else ""
        lines.append(f"- **{row.group}, {kind}**: {row.definition}.{control}")
    return "\n".join(lines)


def html_table(rows: Sequence[Row]) -> str:
    """For the page of pictures."""
    body = []
    for row in rows:
        mark = ' class="failed"' if row.passed is False else ""
        cells = "".join(f"<td>{html.escape(cell)}</td>" for cell in [*_cells(row), row.note])
        body.append(f"<tr{mark}>{cells}</tr>")
    heads = "".join(f"<th>{head}</th>" for head in (*_HEADS, "note"))
    return f"<table><tr>{heads}</tr>{''.join(body)}</table>"


def _mark(row: Row) -> str:
    return {True: "✓", False: "✗ below the bar", None: ""}[row.passed]


def _cells(row: Row) -> list[str]:
    control = _number(row.control)
    if row.control is not None and row.control_is:
        control += f" ({row.control_is})"
    figures = [_number(value) for value in (row.made, row.vae, row.truth)]
    return [row.group, row.name, row.bar, *figures, control]


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
