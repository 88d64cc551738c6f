"""Batches in parts: the same run, whoever makes which part."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mirrorme_model.checkpoint import load_checkpoint
from mirrorme_training.clip_bank import ClipBank, Record
from mirrorme_training.parts import Parts, in_parts
from mirrorme_training.recipe import (
    BankConfig,
    DistillStageConfig,
    FlowStageConfig,
    RecipeError,
    VaeStageConfig,
)
from mirrorme_training.run_log import read_log
from mirrorme_training.run_state import RunError

from tests.training.training_runs import train

RECIPE = """
[hands]
bank = { num_clips = 4, renew_every_steps = 1, window_latents = 3 }
optim = { steps = 4, warmup_steps = 2, log_every_steps = 1, strip_every_steps = 100 }
batch = 2
chunks_per_clip = 2
strip_steps = 2
"""

# Trains as `mirrorme-train` does, and says what is still held when the connection ends.
HELD = """
import weakref
import torch
from mirrorme_training import cli
from mirrorme_training.processes import Processes

joined = []
together, destroy = Processes.together, torch.distributed.destroy_process_group

def watched(processes, module):
    module = together(processes, module)
    joined.append(weakref.ref(module))
    return module

def end():
    print("held:", sum(module() is not None for module in joined), "of", len(joined), flush=True)
    destroy()

Processes.together, torch.distributed.destroy_process_group = watched, end
cli.main()
"""


def numbered(number: int) -> Record:
    return {"number": torch.tensor([number])}


@pytest.mark.parametrize("step", [0, 1, 7, 20])
def test_parts_hold_the_clips_of_the_whole(step: int) -> None:
    config = BankConfig(num_clips=6, renew_every_steps=2)
    whole = ClipBank(config, numbered)
    whole.advance(step)
    both = ClipBank(config, numbered, Parts(2))
    both.advance(step)
    seen: list[int] = []
    for rank in range(2):
        made: list[int] = []
        own = ClipBank(
            config, lambda n, made=made: made.append(n) or numbered(n), Parts(2, rank, 2)
        )
        own.advance(step)
        assert len(own) == 3
        both.show(rank)
        assert torch.equal(own["number"], both["number"]), "who makes a part changes nothing"
        assert sorted(made) == sorted(own["number"].flatten().tolist()), "nothing is made in vain"
        assert {number % 2 for number in made} == {rank}
        seen += made
        with pytest.raises(ValueError, match="another process"):
            own.show(1 - rank)
    assert sorted(seen) == sorted(whole["number"].flatten().tolist())


def test_batches_that_cannot_be_cut_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"batch is 3: want a multiple of 2"):
        in_parts(FlowStageConfig(batch=3), 2)
    with pytest.raises(RecipeError, match=r"picture_batch is 9"):
        in_parts(VaeStageConfig(batch=4, picture_batch=9), 2)
    with pytest.raises(RecipeError, match=r"bank\.num_clips is 5: want a multiple of 2"):
        ClipBank(BankConfig(num_clips=5), numbered, Parts(2))
    part = in_parts(DistillStageConfig(flow=FlowStageConfig(batch=6)), 3)
    assert isinstance(part, DistillStageConfig) and part.flow.batch == 2


def test_a_run_goes_on_with_its_parts_alone(data: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="want a multiple of 3"):
        train("vae", data, tmp_path, steps=1, parts=3)
    train("vae", data, tmp_path, steps=2, call_steps=1, parts=2)
    with pytest.raises(RunError, match="whose parts is 2, not 1"):
        train("vae", data, tmp_path, steps=2, resume=True)


def launch(num_processes: int, *arguments: object, script: Path | None = None) -> str:
    """Runs `mirrorme-train run` in real processes on the CPU, started as `torchrun` does."""
    command = [sys.executable]
    if num_processes > 1:
        command += ["-m", "torch.distributed.run", "--standalone"]
        command += ["--nproc-per-node", str(num_processes)]
    command += ["-m", "mirrorme_training"] if script is None else [str(script)]
    command += ["run", *map(str, arguments), "--device", "cpu"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.slow
def test_two_processes_train_what_one_trains(data: Path, start: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE)
    common = ("hands", "--config", recipe, "--data", data, "--init", start, "--output")
    launch(1, *common, tmp_path / "one", "--parts", 2)
    said = launch(2, *common, tmp_path / "two", "--call-steps", 2)
    assert said.count("step 2") == 2, "the first process alone speaks, of the step and of its end"
    # Nor does it matter who goes on.
    launch(1, *common, tmp_path / "two", "--parts", 2, "--resume")
    launch(2, *common, tmp_path / "two", "--resume")
    one, two = read_log(tmp_path / "one"), read_log(tmp_path / "two")
    assert [line["step"] for line in two] == [1, 2, 3, 4]
    for name in ("loss", "norm", "flow", "flow_mouth", "speech"):
        want = [line[name] for line in one]
        assert [line[name] for line in two] == pytest.approx(want, rel=1e-4)
    models = [
        load_checkpoint(tmp_path / run / "checkpoint.safetensors").model for run in ("one", "two")
    ]
    for name, weight in models[0].state_dict().items():
        torch.testing.assert_close(models[1].state_dict()[name], weight, atol=2e-5, rtol=1e-4)


@pytest.mark.slow
def test_the_connection_ends_after_what_is_joined_by_it(
    data: Path, start: Path, tmp_path: Path
) -> None:
    """The other way round, processes sometimes never end."""
    recipe, script = tmp_path / "recipe.toml", tmp_path / "held.py"
    recipe.write_text(RECIPE)
    script.write_text(HELD)
    arguments = ("hands", "--config", recipe, "--data", data, "--init", start)
    options = ("--output", tmp_path / "run", "--call-steps", 1)
    said = launch(2, *arguments, *options, script=script)
    assert said.count("held: 0 of 1") == 2, said


@pytest.mark.slow
def test_half_precision_and_time_boxes_hold_in_two_processes(
    data: Path, start: Path, tmp_path: Path
) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE)
    arguments = ("hands", "--config", recipe, "--data", data, "--init", start)
    options = ("--precision", "bf16", "--budget-minutes", 600, "--output", tmp_path / "run")
    launch(2, *arguments, *options, "--call-steps", 2)
    said = launch(2, *arguments, *options, "--resume", "--minutes", 0)
    assert "run: step 2" in said, "all processes stop by the first one's clock"
    assert len(read_log(tmp_path / "run")) == 2
    assert load_checkpoint(tmp_path / "run" / "checkpoint.safetensors").trained
