"""`mirrorme-export tensorrt`: plans for the engines of an exported preset."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console

from mirrorme_export.calibration_folder import calibration_folder
from mirrorme_export.tensorrt_target import PRECISIONS, TARGETS


@click.command("tensorrt", context_settings={"show_default": True})
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "--target",
    type=click.Choice(TARGETS),
    default="tensorrt-rtx",
    help="tensorrt: for Triton, on the GPU at hand. tensorrt-rtx: for RTX cards, GPU or not.",
)
@click.option("--gpu", metavar="SM", help="Architecture, such as sm89.  [default: GPU at hand]")
@click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    default="fp16",
    help="fp8: the denoiser's blocks, the rest in fp16; Ada (sm89) or newer.",
)
@click.option(
    "--calibration",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="For fp8: portraits (png, jpg) and speech (16 kHz mono WAV).  [default: examples/]",
)
@click.option(
    "--calibration-chunks",
    type=click.IntRange(1),
    default=8,
    help="For fp8: chunks of speech that each portrait says.",
)
@click.option(
    "--typical-batch-size", type=click.IntRange(1), default=4, help="What plans are tuned for."
)
@click.option("--workspace-mib", type=click.IntRange(1), help="Bound of a layer's scratch memory.")
@click.option("--optimization-level", type=click.IntRange(0, 5), help="More builds slower.")
@click.option(
    "--cache",
    type=click.Path(path_type=Path, file_okay=False),
    help="Plans built before.  [default: .plans beside FOLDER]",
)
@click.option("--check", is_flag=True, help="Build nothing: check the plans that are there.")
def tensorrt_command(
    folder: Path,
    target: str,
    gpu: str | None,
    precision: str,
    calibration: Path | None,
    calibration_chunks: int,
    typical_batch_size: int,
    workspace_mib: int | None,
    optimization_level: int | None,
    cache: Path | None,
    check: bool,
) -> None:
    """Build a TensorRT plan for every engine in FOLDER, an exported preset.

    \b
    Examples:
      mirrorme-export tensorrt engines/repository/demo --target tensorrt-rtx --gpu sm89
      mirrorme-export tensorrt engines/repository/ltx-2b --target tensorrt --precision bf16
      mirrorme-export tensorrt engines/repository/demo --gpu sm89 --precision fp8
      mirrorme-export tensorrt engines/repository/demo --gpu sm89 --check
    """
    from mirrorme_engines.errors import ManifestError

    from mirrorme_export.errors import ExportError
    from mirrorme_export.step_printer import StepPrinter
    from mirrorme_export.tensorrt_export import build_plans, check_plans
    from mirrorme_export.tensorrt_target import TensorRTOptions

    console = Console(stderr=True)
    try:
        options = TensorRTOptions(
            target=target,  # pyright: ignore[reportArgumentType] - click checked the choice
            gpu=gpu,
            precision=precision,  # pyright: ignore[reportArgumentType] - likewise
            typical_batch_size=typical_batch_size,
            workspace_mib=workspace_mib,
            optimization_level=optimization_level,
            calibration=calibration_folder(calibration),
            calibration_chunks=calibration_chunks,
        )
        if check:
            for record in check_plans(folder, options):
                source = record.source
                console.print(
                    f"[green]✓[/] {source.engine}: {source.architecture}, {source.precision}, "
                    f"{source.module} {source.module_version}",
                    highlight=False,
                )
            return
        steps = StepPrinter(console)
        report = build_plans(folder, options, step=steps, cache=cache, progress=steps.progress)
    except (ExportError, ManifestError, OSError) as error:
        raise click.ClickException(str(error)) from error
    console.print(report.table())
    if (fp8_table := report.fp8_table()) is not None:
        console.print(fp8_table)
