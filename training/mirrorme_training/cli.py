"""The `mirrorme-train` command line."""

from __future__ import annotations

from pathlib import Path

import click

from mirrorme_training.speech import SpeechError


@click.group()
def main() -> None:
    """Data and training for MirrorMe."""


@main.command("make-examples")
@click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("examples"),
    show_default=True,
    help="Folder to write to.",
)
def make_examples(output: Path) -> None:
    """Draw the example portraits and speak the example speech."""
    from mirrorme_training.examples import make_portraits, make_speech

    output.mkdir(parents=True, exist_ok=True)
    try:
        for path in [*make_portraits(output), make_speech(output)]:
            click.echo(f"{path}  {path.stat().st_size / 1000:.0f} kB")
    except SpeechError as error:
        raise click.ClickException(str(error)) from error
