"""`mirrorme-export onnx`: a preset's model to ONNX engines, manifest and parity report."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console

PRESETS = ("tiny", "demo", "ltx-2b")
WEIGHTS = Path("weights")


@click.command("onnx", context_settings={"show_default": True})
@click.argument("preset", type=click.Choice(PRESETS))
@click.option(
    "--checkpoint",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Weights to export.  [default: weights/PRESET.safetensors if that is there, else random]",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("engines/repository"),
    help="Folder of engine repositories; PRESET's folder in it is written or replaced.",
)
@click.option("--random", is_flag=True, help="Random weights, even if a checkpoint is there.")
@click.option("--seed", type=click.IntRange(0), default=0, help="Of random weights.")
@click.option(
    "--size",
    metavar="WIDTHxHEIGHT",
    help="Frame size in pixels, multiples of 32.  [default: the checkpoint's]",
)
@click.option(
    "--chunk-latents",
    type=click.IntRange(1),
    help="Latent frames (8 frames each) that one call makes.  [default: the checkpoint's]",
)
@click.option(
    "--also-steps",
    type=click.IntRange(1),
    multiple=True,
    help="Also export a cheaper denoiser of so many steps. May be given again.",
)
@click.option(
    "--max-batch-size", type=click.IntRange(1), default=8, help="Calls that may share a run."
)
def onnx_command(
    preset: str,
    checkpoint: Path | None,
    output: Path,
    random: bool,
    seed: int,
    size: str | None,
    chunk_latents: int | None,
    also_steps: tuple[int, ...],
    max_batch_size: int,
) -> None:
    """Export PRESET's model from torch to the ONNX engines that the gateway runs.

    Writes OUTPUT/PRESET: an ONNX file for each engine, manifest.json, which tells the gateway all
    it knows of the model, and parity.json, which compares each engine with torch at several batch
    sizes. If an engine is off, the export fails and what was there before stays.

    \b
    Examples:
      mirrorme-export onnx demo
      mirrorme-export onnx tiny --random --seed 7 --output /tmp/engines
      mirrorme-export onnx ltx-2b --checkpoint ltx.safetensors --size 768x512 --also-steps 2
    """
    # torch takes seconds to import: not for --help or a wrong option.
    from mirrorme_model.errors import ModelError

    from mirrorme_export.console import engine_table, parity_table
    from mirrorme_export.errors import ExportError, ParityError
    from mirrorme_export.exporter import export_model
    from mirrorme_export.step_printer import StepPrinter
    from mirrorme_export.weights import Shape, checkpoint_model, random_model

    console = Console(stderr=True)
    step = StepPrinter(console)
    if checkpoint is None and not random and (WEIGHTS / f"{preset}.safetensors").exists():
        checkpoint = WEIGHTS / f"{preset}.safetensors"
    if checkpoint and random:
        raise click.UsageError("--checkpoint and --random exclude each other.")
    try:
        shape = Shape(*_parse_size(size), chunk_latents)
        if checkpoint:
            with step(f"load {checkpoint}"):
                model, trained = checkpoint_model(preset, shape, checkpoint)
        else:
            with step(f"make random weights, seed {seed}"):
                model, trained = random_model(preset, shape, seed), False
        export = export_model(
            model,
            output / preset,
            trained=trained,
            step=step,
            max_batch_size=max_batch_size,
            other_steps=also_steps,
        )
    except ParityError as error:
        console.print(parity_table(error.report))
        raise click.ClickException(str(error)) from error
    except (ExportError, ModelError, OSError) as error:
        raise click.ClickException(str(error)) from error
    console.print(parity_table(export.parity))
    console.print(engine_table(export))
    if not trained:
        console.print(
            "[bold yellow]The weights are random: these engines animate noise. "
            "They are for development only (manifest: trained is false).[/]"
        )


def _parse_size(size: str | None) -> tuple[int | None, int | None]:
    if size is None:
        return None, None
    width, _, height = size.partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise click.BadParameter(f"{size!r}: want WIDTHxHEIGHT, like 768x512.", param_hint="--size")
    return int(width), int(height)
