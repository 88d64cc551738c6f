"""`mirrorme-train speech`, `paint` and `run`."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import click
from mirrorme_model.errors import CheckpointError, ConfigError

from mirrorme_training.recipe import (
    STAGES,
    RecipeError,
    StageName,
    load_recipe,
    with_size,
    with_steps,
)
from mirrorme_training.run_state import RunError
from mirrorme_training.speech import SpeechError
from mirrorme_training.speech_shards import ShardConfig, ShardError, write_shards


@click.command("speech")
@click.option("--clips", type=click.IntRange(min=1), default=1024, show_default=True)
@click.option(
    "--frames",
    type=click.IntRange(min=32),
    default=128,
    show_default=True,
    help="Of a clip, at 24 a second; a multiple of 8.",
)
@click.option("--clips-per-shard", type=click.IntRange(min=1), default=64, show_default=True)
@click.option(
    "--idle",
    type=click.FloatRange(0, 1),
    default=0.08,
    show_default=True,
    help="Share of clips without speech.",
)
@click.option(
    "--exercised",
    type=click.FloatRange(0, 1),
    default=0.2,
    show_default=True,
    help="Share of clips without speech in which controls move by chance.",
)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--workers", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("-o", "--output", type=click.Path(file_okay=False, path_type=Path), required=True)
def speech(
    clips: int, frames: int, clips_per_shard: int, idle: float, exercised: float, seed: int,
    workers: int, output: Path,
) -> None:  # fmt: skip
    """Speak the training texts, and make the movement that goes with them. Goes on where it was."""
    try:
        config = ShardConfig(clips, frames, clips_per_shard, idle, exercised, seed)
        for path in write_shards(output, config, workers):
            click.echo(f"{path}  {path.stat().st_size / 1e6:.1f} MB")
    except (ShardError, SpeechError, ValueError) as error:
        raise click.ClickException(str(error)) from error


@click.command("paint")
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Folder that `mirrorme-train speech` made.",
)
@click.option("--clips", type=click.IntRange(min=1), default=1024, show_default=True)
@click.option(
    "--latents",
    type=click.IntRange(min=1),
    default=6,
    show_default=True,
    help="k of the 1 + 8k frames painted of a clip.",
)
@click.option("--size", type=click.IntRange(min=32), default=256, show_default=True)
@click.option(
    "--crop",
    type=click.IntRange(min=32),
    help="Paint a square of so many pixels a side, around the mouth, instead of the whole picture.",
)
@click.option("--close-up", type=click.FloatRange(0, 1), default=0.35, show_default=True)
@click.option(
    "--liveliness",
    type=click.FloatRange(min=0),
    default=1.0,
    show_default=True,
    help="Of what speech does not move: head, eyes, brows, smiles, trunk.",
)
@click.option(
    "--still",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    help="Share of the clips with speech in which it alone moves, and the hands.",
)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--workers", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("-o", "--output", type=click.Path(file_okay=False, path_type=Path), required=True)
def paint(
    data: Path, clips: int, latents: int, size: int, crop: int | None, close_up: float,
    liveliness: float, still: float, seed: int, workers: int, output: Path,
) -> None:  # fmt: skip
    """Paint clips once, for training without a GPU. Goes on where it was; 10 MB a clip."""
    from mirrorme_training.painted_clips import PaintConfig, write_painted

    try:
        config = PaintConfig(
            num_clips=clips,
            window_latents=latents,
            size_px=size,
            close_up=close_up,
            seed=seed,
            crop_px=crop,
            liveliness=liveliness,
            still=still,
        )
        paths = write_painted(output, data, config, workers)
        with click.progressbar(paths, length=clips, label=str(output)) as bar:
            for _ in bar:
                pass
    except (ShardError, RecipeError, ValueError) as error:
        raise click.ClickException(str(error)) from error


@click.command("run")
@click.argument("stage", type=click.Choice(STAGES))
@click.option(
    "--config", "recipe", default="demo", show_default=True, help="A recipe's name or .toml file."
)
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    multiple=True,
    help="Folder that `mirrorme-train speech`, `paint` or `prepare` made; several are joined.",
)
@click.option("--output", type=click.Path(file_okay=False, path_type=Path), required=True)
@click.option(
    "--init",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Checkpoint of the stage before; the VAE may do without.",
)
@click.option(
    "--base",
    type=click.Path(path_type=Path),
    help="ltx-2b: LTX-Video 2B, a safetensors file or a diffusers folder; it stays as it is.",
)
@click.option(
    "--wav2vec2", type=click.Path(path_type=Path), help="ltx-2b: a Hugging Face wav2vec2 folder."
)
@click.option(
    "--text-embedding",
    type=click.Path(path_type=Path),
    help="ltx-2b, first stage: T5 embedding of a caption, in safetensors or .npy.",
)
@click.option("--resume", is_flag=True, help="Go on with the run in --output, or start it.")
@click.option(
    "--call-steps", type=click.IntRange(min=0), help="Stop this call after so many steps."
)
@click.option("--minutes", type=click.FloatRange(min=0), help="Stop this call after so long.")
@click.option(
    "--budget-minutes",
    type=click.FloatRange(min=0, min_open=True),
    help="End the stage after so long over all calls; the learning rate falls with it.",
)
@click.option("--steps", type=click.IntRange(min=1), help="Instead of the recipe's.")
@click.option("--size", type=click.IntRange(min=32), help="Pixels a side, where a VAE starts anew.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--device", type=click.Choice(["cuda", "cpu"]), help="The best there is.")
@click.option("--precision", type=click.Choice(["bf16", "fp32"]), help="bf16 on cuda, fp32 on cpu.")
@click.option(
    "--parts",
    type=click.IntRange(min=1),
    help="Parts that a step's batch is made in, one after another or by several processes: less "
    "memory, the same clips.  [default: as many as processes]",
)
@click.option("--compile/--no-compile", "compiled", default=False, show_default=True)
@click.option(
    "--graphs/--no-graphs",
    default=False,
    show_default=True,
    help="Replay steps as CUDA graphs: faster where networks are small. One GPU alone.",
)
def run(
    stage: str, recipe: str, data: tuple[Path, ...], output: Path, init: Path | None,
    base: Path | None, wav2vec2: Path | None, text_embedding: Path | None, resume: bool,
    call_steps: int | None, minutes: float | None, budget_minutes: float | None,
    steps: int | None, size: int | None, seed: int, device: str | None, precision: str | None,
    parts: int | None, compiled: bool, graphs: bool,
) -> None:  # fmt: skip
    """Train one STAGE. Its checkpoint, log and sample strips are in --output.

    On several GPUs, start it by `accelerate launch --no_python mirrorme-train run ...`.
    """
    import torch

    from mirrorme_training.published_start import PublishedParts
    from mirrorme_training.run import RunRequest, run_stage
    from mirrorme_training.trainer import RunOptions

    kind = device or ("cuda" if torch.cuda.is_available() else "cpu")
    half = precision == "bf16" if precision else kind == "cuda"
    name = cast(StageName, stage)
    try:
        config = load_recipe(recipe, name)
        if size is not None:
            config = with_size(config, size)
        request = RunRequest(
            stage=name,
            config=config if steps is None else with_steps(config, steps),
            data=data,
            init=init,
            resume=resume,
            compile=compiled,
            parts=parts,
            published=PublishedParts(base, wav2vec2, text_embedding),
            options=RunOptions(
                folder=output,
                device=torch.device(kind),
                seed=seed,
                precision="bf16" if half else "fp32",
                call_steps=call_steps,
                minutes=minutes,
                budget_minutes=budget_minutes,
                graphs=graphs,
            ),
        )
        run_stage(request, click.echo)
    except (RunError, RecipeError, ShardError, CheckpointError, ConfigError) as error:
        raise click.ClickException(str(error)) from error
