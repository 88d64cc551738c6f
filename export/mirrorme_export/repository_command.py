"""`mirrorme-export repository`: what a Triton server's pod does before its server starts."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console

from mirrorme_export.tensorrt_target import PRECISIONS, TARGETS
from mirrorme_export.triton_repository import PLATFORMS


@click.command("repository", context_settings={"show_default": True})
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="The repository; replaced if it is one.",
)
@click.option("--platform", type=click.Choice(PLATFORMS), default="tensorrt_plan")
@click.option("--device", type=click.Choice(("cpu", "gpu")), default="gpu")
@click.option("--instances", type=click.IntRange(1), default=1, help="Copies of each engine.")
@click.option("--threads", type=click.IntRange(0), default=1, help="On the CPU; 0: one a core.")
@click.option("--max-queue-delay-us", type=click.IntRange(0), default=1000)
@click.option(
    "--cache",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where plans are kept; machines that share it build each plan once.",
)
@click.option("--target", type=click.Choice(TARGETS), default="tensorrt")
@click.option("--gpu", metavar="SM", help="Architecture, such as sm89.  [default: GPU at hand]")
@click.option("--precision", type=click.Choice(PRECISIONS), default="fp16")
@click.option("--typical-batch-size", type=click.IntRange(1), default=4)
@click.option(
    "--calibration",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="For fp8: portraits and speech.",
)
def repository_command(
    folder: Path,
    output: Path,
    platform: str,
    device: str,
    instances: int,
    threads: int,
    max_queue_delay_us: int,
    cache: Path | None,
    target: str,
    gpu: str | None,
    precision: str,
    typical_batch_size: int,
    calibration: Path | None,
) -> None:
    """Make OUTPUT a Triton model repository of FOLDER, an exported preset, which is only read.

    With platform tensorrt_plan, plans come out of the cache, or are built on the GPU at hand and
    put there.

    \b
    Examples:
      mirrorme-export repository /models/demo -o /repository/demo --cache /plans
      mirrorme-export repository /models/demo -o /repository/demo --platform python --device cpu
    """
    from mirrorme_engines.errors import ManifestError

    from mirrorme_export.errors import ExportError
    from mirrorme_export.serving_repository import RepositoryOptions, make_repository
    from mirrorme_export.step_printer import StepPrinter
    from mirrorme_export.tensorrt_target import TensorRTOptions
    from mirrorme_export.triton_repository import TritonOptions

    console = Console(stderr=True)
    steps = StepPrinter(console)
    try:
        plans = TensorRTOptions(
            target=target,  # pyright: ignore[reportArgumentType] - click checked the choice
            gpu=gpu,
            precision=precision,  # pyright: ignore[reportArgumentType] - likewise
            typical_batch_size=typical_batch_size,
            calibration=calibration,
        )
        triton = TritonOptions(
            platform=platform,  # pyright: ignore[reportArgumentType] - likewise
            device=device,  # pyright: ignore[reportArgumentType] - likewise
            instances=instances,
            threads=threads,
            max_queue_delay_us=max_queue_delay_us,
        )
        options = RepositoryOptions(triton, plans if platform == "tensorrt_plan" else None, cache)
        report = make_repository(folder, output, options, step=steps, progress=steps.progress)
    except (ExportError, ManifestError, ValueError, OSError) as error:
        raise click.ClickException(str(error)) from error
    if report is not None:
        console.print(report.table())
