"""What the model is worth, through its exported engines and the real service.

    make evaluate
    make evaluate ARGS="--quick --only lips,idle"

Starts the gateway, streams people, voices and texts that training never saw, and measures the
frames by rendered truth and plain image processing: see docs/evaluation.md. A figure below its bar
is marked; it is no error.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import click
import torch
from evaluation.likeness_measures import measure_drift, measure_identity, measure_reconstruction
from evaluation.motion_measures import measure_controls, measure_hands, measure_idle
from evaluation.pictures import Pictures
from evaluation.report import html_table, terminal_table
from evaluation.results import update_document, write_evaluation
from evaluation.row import Row
from evaluation.scale import QUICK, SMOKE, WHOLE, Scale
from evaluation.speech_measures import Takes, measure_human, measure_lips, measure_seams
from evaluation.studio import Studio
from gateway_process import running_gateway
from mirrorme_engines.manifest import Manifest
from mirrorme_model.avatar import AvatarModel
from mirrorme_model.checkpoint import load_checkpoint
from mirrorme_model.presets import PRESETS, preset
from rich.console import Console

ROOT = Path(__file__).parents[1]
RECORDINGS = ROOT.parent / "shared" / "assets" / "speech"
GROUPS = (
    "reconstruction", "lips", "seams", "human", "identity", "hands", "controls", "idle", "drift",
)  # fmt: skip


@click.command(help=__doc__, context_settings={"show_default": True})
@click.option(
    "--engines",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=ROOT / "engines" / "repository" / "demo",
    help="Folder of exported engines.",
)
@click.option(
    "--checkpoint",
    type=click.Path(dir_okay=False, path_type=Path),
    default=ROOT / "weights" / "demo.safetensors",
    help="Where the engines come from: its VAE is measured in torch, too.",
)
@click.option("--quick", is_flag=True, help="Few people, one minute of drift: 4 minutes.")
@click.option("--smoke", is_flag=True, help="Only to see that it runs: the figures mean nothing.")
@click.option("--only", metavar="GROUP,…", help=f"Some of {', '.join(GROUPS)}.")
@click.option(
    "--recordings",
    type=click.Path(file_okay=False, path_type=Path),
    default=RECORDINGS,
    help="Folder of WAV files of human speech; left out where it is missing.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("runs/evaluation"),
    help="Folder of the page of pictures.",
)
@click.option("--record", is_flag=True, help="Write results/evaluation.json and the docs' table.")
def main(
    engines: Path,
    checkpoint: Path,
    quick: bool,
    smoke: bool,
    only: str | None,
    recordings: Path,
    output: Path,
    record: bool,
) -> None:
    groups = tuple(only.split(",")) if only else GROUPS
    if unknown := set(groups) - set(GROUPS):
        raise click.UsageError(f"unknown: {', '.join(sorted(unknown))}; want {', '.join(GROUPS)}")
    scale = SMOKE if smoke else QUICK if quick else WHOLE
    console = Console(highlight=False)
    start_s = time.monotonic()
    manifest = Manifest.load(engines)
    model = find_model(manifest, checkpoint, console)
    pictures = Pictures(output)
    rows = asyncio.run(evaluate(engines, model, pictures, console, groups, recordings, scale))
    console.print(terminal_table(rows))
    measured = {
        "preset": manifest.preset,
        "trained": manifest.trained,
        "weights_sha256": manifest.weights_sha256,
    }
    run = {
        "scale": scale.name,
        "groups": groups,
        "minutes": round((time.monotonic() - start_s) / 60, 1),
    }
    paths = [write_evaluation(output / "evaluation.json", measured, run, rows)]
    paths.append(pictures.write_page(html_table(rows)))
    if record:
        target = ROOT / "benchmarks" / "results" / "evaluation.json"
        paths.append(write_evaluation(target, measured, run, rows))
        paths.append(update_document(ROOT / "docs" / "evaluation.md", measured, run, rows))
    for path in paths:
        console.print(f"written: {path}")


def find_model(manifest: Manifest, checkpoint: Path, console: Console) -> AvatarModel | None:
    """In torch, if it is that of the engines."""
    model = None
    if manifest.trained and checkpoint.exists():
        model = load_checkpoint(checkpoint).model
    elif not manifest.trained and manifest.preset in PRESETS:
        model = AvatarModel.random(preset(manifest.preset), 0)
    if model is None or model.weights_sha256() != manifest.weights_sha256:
        console.print(
            f"[yellow]the engines' weights are not those of {checkpoint}: no VAE figures[/]"
        )
        return None
    return model


async def evaluate(
    engines: Path,
    model: AvatarModel | None,
    pictures: Pictures,
    console: Console,
    groups: tuple[str, ...],
    recordings: Path,
    scale: Scale,
) -> list[Row]:
    """Runs the groups in order."""
    torch.set_grad_enabled(False)
    # The gateway shares the cores; threads that wait for each other would only slow both down.
    torch.set_num_threads(1)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        async with running_gateway(engines, Path(folder) / "gateway.log") as gateway:
            served = (await gateway.client.capabilities()).presets[0]
            studio = Studio(gateway.client, served, engines, model, pictures, console, scale)
            for name, measure in measures(studio, recordings).items():
                if name not in groups:
                    continue
                start_s = time.monotonic()
                console.print(f"[bold]{name}[/]")
                found = await measure()
                rows.extend(found)
                console.print(f"  {time.monotonic() - start_s:.0f} s")
    return rows


def measures(studio: Studio, recordings: Path) -> dict[str, Callable[[], Awaitable[list[Row]]]]:
    """By group, in the order that they run in."""
    takes = Takes(studio)
    paths = sorted(recordings.glob("*.wav"))
    return {
        "reconstruction": lambda: measure_reconstruction(studio),
        "lips": lambda: measure_lips(studio, takes),
        "seams": lambda: measure_seams(studio, takes),
        "human": lambda: measure_human(studio, takes, paths),
        "identity": lambda: measure_identity(studio),
        "hands": lambda: measure_hands(studio),
        "controls": lambda: measure_controls(studio),
        "idle": lambda: measure_idle(studio),
        "drift": lambda: measure_drift(studio),
    }


if __name__ == "__main__":
    main()
