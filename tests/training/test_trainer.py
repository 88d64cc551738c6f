"""Resuming, time boxes, learning, and refusals."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import pytest
import torch
from mirrorme_model.avatar import AvatarModel
from mirrorme_model.checkpoint import load_checkpoint
from mirrorme_model.presets import preset
from mirrorme_training.clip_casting import PaintedOnDemand
from mirrorme_training.clip_store import ClipStore
from mirrorme_training.flow_stage import FlowStage
from mirrorme_training.painted_clips import PaintConfig, write_painted
from mirrorme_training.recipe import (
    FIRST_STAGES,
    STAGES,
    FlowStageConfig,
    RecipeError,
    StageName,
    VaeStageConfig,
    load_recipe,
    recipe_text,
    shipped_recipes,
    with_newer_settings,
)
from mirrorme_training.run_log import read_log
from mirrorme_training.run_state import STATE_NAME, RunError
from mirrorme_training.stage import Stage
from mirrorme_training.vae_stage import VaeStage

from tests.training.training_runs import train


@pytest.mark.parametrize(
    "stage",
    [pytest.param(s, marks=() if s == "hands" else pytest.mark.slow) for s in STAGES],
)
def test_resumed_run_equals_unbroken_run(
    stage: StageName, data: Path, start: Path, tmp_path: Path
) -> None:
    init = None if stage in FIRST_STAGES else start
    whole_folder = tmp_path / "whole"
    whole = train(stage, data, whole_folder, init=init, steps=4)
    parts = tmp_path / "parts"
    train(stage, data, parts, init=init, steps=4, call_steps=1)
    train(stage, data, parts, init=init, steps=4, call_steps=2, resume=True)
    broken = train(stage, data, parts, init=init, steps=4, resume=True)
    assert broken == whole
    checkpoints = [load_checkpoint(f / "checkpoint.safetensors") for f in (whole_folder, parts)]
    assert checkpoints[0].model.weights_sha256() == checkpoints[1].model.weights_sha256()


def test_run_from_before_there_were_rates_goes_on(data: Path, tmp_path: Path) -> None:
    whole = train("vae", data, tmp_path / "whole", steps=3)
    train("vae", data, tmp_path / "old", steps=3, call_steps=1)
    path = tmp_path / "old" / STATE_NAME
    state = torch.load(path, weights_only=True)
    for group in state["optimizer"]["param_groups"]:
        del group["rate"]
    torch.save(state, path)
    assert train("vae", data, tmp_path / "old", steps=3, resume=True) == whole


def test_people_who_are_not_trained_on_are_watched(data: Path, start: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "watched.toml"
    tiny = resources.files("mirrorme_training").joinpath("recipes", "tiny.toml").read_text()
    recipe.write_text(tiny.replace("[hands]\n", "[hands]\nheld_out_clips = 2\n"))
    train("hands", data, tmp_path / "run", init=start)
    train("hands", data, tmp_path / "watched", init=start, recipe=str(recipe))
    run, watched = (read_log(tmp_path / name) for name in ("run", "watched"))
    assert [line["loss"] for line in run] == [line["loss"] for line in watched]
    held_out = [line["held_out_flow"] for line in watched]
    assert len(set(held_out)) == len(held_out), "the average moves"
    assert max(held_out) < 2 * min(held_out), "the chunks and their noise are the same"


def test_painted_clips_keep_nobody_out(data: Path, start: Path, tmp_path: Path) -> None:
    painted, recipe = tmp_path / "painted", tmp_path / "own.toml"
    list(write_painted(painted, data, PaintConfig(num_clips=2, window_latents=3, size_px=64)))
    recipe.write_text("[hands]\nheld_out_clips = 1\nbank = { num_clips = 2, window_latents = 3 }\n")
    with pytest.raises(RecipeError, match="held_out_clips"):
        train("hands", painted, tmp_path / "run", init=start, steps=1, recipe=str(recipe))


def test_run_of_another_kind_is_not_resumed(data: Path, start: Path, tmp_path: Path) -> None:
    train("face", data, tmp_path, init=start, steps=1)
    with pytest.raises(RunError, match="--resume"):
        train("face", data, tmp_path, init=start, steps=1)
    with pytest.raises(RunError, match="stage"):
        train("body", data, tmp_path, init=start, resume=True, steps=1)


def test_stage_after_the_vae_wants_a_checkpoint(data: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="--init"):
        train("face", data, tmp_path)


def test_runs_in_half_precision(data: Path, start: Path, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        # On a CPU there is no fused norm of bfloat16 with float32 weights.
        warnings.filterwarnings("ignore", "Mismatch dtype", UserWarning)
        losses = train("hands", data, tmp_path, init=start, steps=2, precision="bf16")
    assert all(math.isfinite(loss) for loss in losses)


@pytest.mark.parametrize("stage", [s for s in STAGES if s != "code"])
def test_what_is_compiled_is_what_runs(
    stage: StageName, data: Path, start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[str] = []

    def compile_to_itself(function: Callable[..., object], *_: object, **__: object) -> object:
        def run(*args: object, **kwargs: object) -> object:
            runs.append(function.__name__)
            return function(*args, **kwargs)

        return run

    monkeypatch.setattr(torch, "compile", compile_to_itself)
    train(stage, data, tmp_path / "run", init=start, steps=2, compiled=True)
    assert len(runs) >= 2


def test_recipe_refuses_unknown_settings(tmp_path: Path) -> None:
    recipe = tmp_path / "own.toml"
    recipe.write_text("[face]\nbatchsize = 3\n")
    with pytest.raises(RecipeError, match="batchsize"):
        load_recipe(str(recipe), "face")
    with pytest.raises(RecipeError, match=r"no table \[vae\]"):
        load_recipe(str(recipe), "vae")
    with pytest.raises(RecipeError, match="demo"):
        load_recipe("huge", "vae")


def test_a_setting_that_is_new_does_not_end_a_run() -> None:
    settings = dataclasses.asdict(load_recipe("tiny", "distill"))
    now = recipe_text(settings)
    del settings["flow"]["recompute"]
    assert with_newer_settings("distill", recipe_text(settings)) == now
    settings["flow"]["optim"]["steps"] += 1
    assert with_newer_settings("distill", recipe_text(settings)) == now
    settings["flow"]["batch"] += 1
    assert with_newer_settings("distill", recipe_text(settings)) != now


@pytest.mark.parametrize("name", shipped_recipes())
def test_shipped_recipes_name_every_stage(name: str) -> None:
    some: dict[str, tuple[StageName, ...]] = {
        "ltx-2b": ("face", "body", "hands"),
        "demo-decoder": ("vae",),
        "demo-voices": ("speech",),
        "demo-details": ("decoder",),
        "demo-controls": ("decoder",),
    }
    for stage in some.get(name, STAGES):
        load_recipe(name, stage)


def test_vae_loss_falls_on_one_clip(data: Path) -> None:
    model = AvatarModel.random(preset("tiny"), 0, zero_adapters=True)
    config = load_recipe("tiny", "vae")
    assert isinstance(config, VaeStageConfig)
    bank = dataclasses.replace(config.bank, num_clips=1, renew_every_steps=0)
    config = dataclasses.replace(config, bank=bank, pictures_every_steps=0)
    stage = VaeStage(model, config, PaintedOnDemand(ClipStore(data)), 0, fresh=True)
    losses = overfit(stage, 40)
    assert losses[-1] < 0.6 * losses[0]


def test_flow_loss_falls_on_one_batch(data: Path) -> None:
    model = AvatarModel.random(preset("tiny"), 0, zero_adapters=True)
    config = load_recipe("tiny", "hands")
    assert isinstance(config, FlowStageConfig)
    bank = dataclasses.replace(config.bank, num_clips=1, renew_every_steps=0)
    stage = FlowStage(
        model,
        dataclasses.replace(config, bank=bank),
        PaintedOnDemand(ClipStore(data)),
        0,
        autocast=False,
    )
    losses = overfit(stage, 60)
    assert losses[-1] < 0.75 * losses[0]


def overfit(stage: Stage, steps: int) -> list[float]:
    """Losses of one batch, the same in every step."""
    stage.advance(0)
    optimizer = torch.optim.Adam(stage.trained.parameters(), lr=4e-3)
    losses = []
    for _ in range(steps):
        loss, _ = stage.loss(0, torch.Generator().manual_seed(0))
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return losses
