"""`mirrorme-export triton`: makes an exported preset a Triton model repository."""

from __future__ import annotations

from pathlib import Path

import click

from mirrorme_export.triton_repository import PLATFORMS, TritonOptions


@click.command("triton", context_settings={"show_default": True})
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "--platform",
    type=click.Choice(PLATFORMS),
    default="onnxruntime_onnx",
    help="tensorrt_plan wants plans built before; python is for servers with that backend alone.",
)
@click.option("--device", type=click.Choice(("cpu", "gpu")), help="[default: gpu for plans]")
@click.option("--instances", type=click.IntRange(1), default=1, help="Copies of each engine.")
@click.option("--threads", type=click.IntRange(0), default=1, help="On the CPU; 0: one a core.")
@click.option(
    "--max-queue-calls",
    type=click.IntRange(0),
    default=0,
    help="Refuse calls beyond so many waiting ones; 0: gateways bound them. See docs/triton.md.",
)
@click.option(
    "--queue-timeout-ms",
    type=click.IntRange(0),
    default=0,
    help="Refuse calls that waited so long; 0: the gateways' deadlines. See docs/triton.md.",
)
@click.option(
    "--max-queue-delay-us",
    type=click.IntRange(0),
    default=1000,
    help="How long a call may wait for others to share its batch.",
)
def triton_command(
    folder: Path,
    platform: str,
    device: str | None,
    instances: int,
    threads: int,
    max_queue_calls: int,
    queue_timeout_ms: int,
    max_queue_delay_us: int,
) -> None:
    """Write config.pbtxt for every engine in FOLDER, an exported preset.

    \b
    Examples:
      mirrorme-export triton engines/repository/demo --platform python
      mirrorme-export triton engines/repository/ltx-2b --platform tensorrt_plan
    """
    from mirrorme_engines.errors import ManifestError

    from mirrorme_export.triton_repository import write_triton_repository

    default = "gpu" if platform == "tensorrt_plan" else "cpu"
    try:
        options = TritonOptions(
            platform=platform,  # pyright: ignore[reportArgumentType] - click checked the choice
            device=device or default,  # pyright: ignore[reportArgumentType] - likewise
            instances=instances,
            threads=threads,
            max_queue_calls=max_queue_calls,
            queue_timeout_ms=queue_timeout_ms,
            max_queue_delay_us=max_queue_delay_us,
        )
        for path in write_triton_repository(folder, options):
            click.echo(path)
    except (ManifestError, ValueError, OSError) as error:
        raise click.ClickException(str(error)) from error
