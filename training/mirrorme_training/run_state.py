"""The file a run resumes from: weights, averages, optimiser, step; its randomness is the step's."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mirrorme_training.recipe import StageName, with_newer_settings

STATE_NAME = "state.pt"
CHECKPOINT_NAME = "checkpoint.safetensors"


class RunError(Exception):
    """A run cannot start, or cannot go on from what is in its folder."""


@dataclass(frozen=True)
class RunIdentity:
    """What must be the same for a run to go on. Plain values."""

    stage: StageName
    recipe: str
    """JSON of the stage's config, without the number of steps."""
    seed: int
    data_hash: str
    start: str
    """Hash of the weights it started from."""
    parts: int = 1
    """That a step's batch is made in."""


@dataclass(frozen=True)
class RunState:
    """A moment of a run."""

    identity: RunIdentity
    step: int
    minutes: float
    """Trained so far, over all calls."""
    weights: dict[str, Tensor]
    averages: dict[str, Tensor]
    optimizer: dict[str, Any]


def save_state(folder: Path, state: RunState) -> None:
    """Writes the state, atomically."""
    document = {**state.__dict__, "identity": state.identity.__dict__}
    partial = folder / (STATE_NAME + ".partial")
    torch.save(document, partial)
    partial.replace(folder / STATE_NAME)


def load_state(folder: Path, identity: RunIdentity, device: torch.device) -> RunState | None:
    """Reads the state; None if there is none yet.

    Raises:
        RunError: the run was another one, and in what.
    """
    path = folder / STATE_NAME
    if not path.exists():
        return None
    document = torch.load(path, map_location=device, weights_only=True)
    found = RunIdentity(**document.pop("identity"))
    recipe = with_newer_settings(found.stage, found.recipe)
    found = dataclasses.replace(found, recipe=recipe)
    for name, want in identity.__dict__.items():
        if (got := getattr(found, name)) != want:
            raise RunError(f"{folder} holds a run whose {name} is {got!r}, not {want!r}")
    return RunState(identity=found, **document)
