"""`mirrorme contact-sheet`: a video at a glance."""

from __future__ import annotations

from pathlib import Path

import click

from mirrorme_client.contact_sheet import write_contact_sheet


@click.command(name="contact-sheet")
@click.argument("video", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="PNG file to write; replaced if it is there.",
)
@click.option("--columns", type=click.IntRange(1, 50), default=6, show_default=True)
@click.option("--rows", type=click.IntRange(1, 50), default=3, show_default=True)
def command(video: Path, output: Path, columns: int, rows: int) -> None:
    """Write evenly spaced frames of VIDEO, with their times, into one PNG."""
    write_contact_sheet(video, output, num_columns=columns, num_rows=rows)
