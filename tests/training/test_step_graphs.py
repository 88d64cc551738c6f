"""Steps that are replayed train what steps that are run train."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mirrorme_model.checkpoint import load_checkpoint
from mirrorme_training.recipe import StageName
from mirrorme_training.run_state import RunError

from tests.training.training_runs import train

STEPS = 16
"""More than are run before one is recorded, of every kind that stages have."""


def test_a_cpu_has_no_graphs(data: Path, start: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="--graphs"):
        train("hands", data, tmp_path, init=start, steps=1, graphs=True)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="wants an NVIDIA GPU")
@pytest.mark.parametrize("stage", ["vae", "hands"])
def test_replayed_steps_train_the_same(
    stage: StageName, data: Path, start: Path, tmp_path: Path
) -> None:
    init = None if stage == "vae" else start
    run, replayed = tmp_path / "run", tmp_path / "replayed"
    wanted = train(stage, data, run, init=init, steps=STEPS, device="cuda")
    train(stage, data, replayed, init=init, steps=STEPS, call_steps=9, device="cuda", graphs=True)
    # Goes on, and records anew.
    losses = train(
        stage, data, replayed, init=init, steps=STEPS, resume=True, device="cuda", graphs=True
    )
    assert losses == pytest.approx(wanted, rel=2e-3)
    weights = [
        load_checkpoint(folder / "checkpoint.safetensors").model.state_dict()
        for folder in (run, replayed)
    ]
    for name, value in weights[0].items():
        assert (value - weights[1][name]).abs().max() < 1e-3 * (1 + value.abs().max()), name
