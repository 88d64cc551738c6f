"""Small data and runs that the training tests share. Clips are idle: no synthesiser is needed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from mirrorme_training.published_start import NOTHING_PUBLISHED, PublishedParts
from mirrorme_training.recipe import StageName, load_recipe, with_steps
from mirrorme_training.run import RunRequest, run_stage
from mirrorme_training.run_log import read_log
from mirrorme_training.speech_shards import ShardConfig, write_shards
from mirrorme_training.trainer import Precision, RunOptions

IDLE = ShardConfig(num_clips=3, num_frames=48, clips_per_shard=2, idle=1.0)


def make_data(folder: Path) -> Path:
    """A folder of idle clips."""
    list(write_shards(folder, IDLE))
    return folder


def train(
    stage: StageName,
    data: Path | tuple[Path, ...],
    folder: Path,
    *,
    init: Path | None = None,
    resume: bool = False,
    steps: int = 4,
    call_steps: int | None = None,
    precision: Precision = "fp32",
    parts: int | None = None,
    recipe: str = "tiny",
    published: PublishedParts = NOTHING_PUBLISHED,
    device: str = "cpu",
    graphs: bool = False,
    compiled: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> list[float]:
    """Runs a stage of a recipe and returns the losses of all its steps so far."""
    request = RunRequest(
        stage=stage,
        config=with_steps(load_recipe(recipe, stage), steps),
        data=(data,) if isinstance(data, Path) else data,
        init=init,
        resume=resume,
        compile=compiled,
        parts=parts,
        published=published,
        options=RunOptions(
            folder,
            torch.device(device),
            seed=1,
            precision=precision,
            call_steps=call_steps,
            graphs=graphs,
        ),
    )
    run_stage(request, say)
    return [line["loss"] for line in read_log(folder)]
