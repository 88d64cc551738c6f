"""Each stage's command from data to checkpoint, in the order in which they are trained."""

from __future__ import annotations

import itertools
import json
import warnings
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from mirrorme_model.checkpoint import load_checkpoint
from mirrorme_model.conditions import Conditions
from mirrorme_model.graphs import DenoiserGraph
from mirrorme_training.cli import main
from mirrorme_training.clip_casting import PaintedOnDemand
from mirrorme_training.clip_store import ClipStore
from mirrorme_training.distill_stage import DistillStage
from mirrorme_training.recipe import STAGES, DistillStageConfig, load_recipe
from mirrorme_training.run_log import read_log
from PIL import Image

from tests.training.training_runs import make_data

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data and a run of every stage."""
    folder = tmp_path_factory.mktemp("runs")
    make_data(folder / "data")
    init: list[str] = []
    for stage in STAGES:
        output = folder / stage
        arguments = ["run", stage, "--config", "tiny", "--data", str(folder / "data")]
        result = CliRunner().invoke(
            main, [*arguments, "--output", str(output), "--device", "cpu", *init]
        )
        assert result.exit_code == 0, result.output
        assert f"{output}: step 4" in result.output
        init = ["--init", str(output / "checkpoint.safetensors")]
    return folder


@pytest.mark.parametrize("stage", STAGES)
def test_checkpoint_says_where_it_comes_from(runs: Path, stage: str) -> None:
    checkpoint = load_checkpoint(runs / stage / "checkpoint.safetensors")
    origin = checkpoint.provenance
    assert checkpoint.trained
    assert (origin["stage"], origin["steps"], origin["seed"]) == (stage, 4, 0)
    assert origin["data_sha256"] == ClipStore(runs / "data").data_hash
    assert "optim" in json.dumps(origin["recipe"])
    earlier = STAGES[: STAGES.index(stage)]
    parents = []
    while "parent" in origin:
        origin = origin["parent"]
        parents.append(origin["stage"])
    assert parents[::-1] == list(earlier)


@pytest.mark.parametrize("stage", STAGES)
def test_log_and_strip_are_there(runs: Path, stage: str) -> None:
    log = read_log(runs / stage)
    assert [line["step"] for line in log] == [1, 2, 3, 4]
    assert all(line["clips_per_s"] > 0 for line in log)
    with Image.open(runs / stage / "strip-0000004.png") as strip:
        assert min(strip.size) >= 64


def test_each_stage_trains_its_own_part(runs: Path) -> None:
    models = {s: load_checkpoint(runs / s / "checkpoint.safetensors").model for s in STAGES}
    speech, vae = models["speech"], models["vae"]
    for part in ("audio", "denoiser"):
        kept, found = getattr(speech, part).state_dict(), getattr(vae, part).state_dict()
        assert all(torch.equal(kept[name], found[name]) for name in kept)
    for before, after in itertools.pairwise(STAGES[1 : STAGES.index("code")]):
        old, new = models[before], models[after]
        assert all(
            torch.equal(a, b)
            for a, b in zip(
                old.vae.state_dict().values(), new.vae.state_dict().values(), strict=True
            )
        ), "later stages leave the VAE alone"
        for part in ("audio", "denoiser"):
            weights = getattr(old, part).state_dict(), getattr(new, part).state_dict()
            assert any(not torch.equal(weights[0][n], weights[1][n]) for n in weights[0])
    for before, stage, own in (
        ("distill", "code", "denoiser.face_code."),
        ("code", "decoder", "vae.decoder."),
    ):
        old, new = models[before].state_dict(), models[stage].state_dict()
        moved = {name for name in old if not torch.equal(old[name], new[name])}
        assert moved and all(name.startswith(own) for name in moved)
    hands = models["hands"].denoiser.hand_encoder
    body = models["body"].denoiser.hand_encoder
    assert hands is not None and body is not None
    assert not body.output.weight.any(), "hands are given from their stage on"
    assert hands.output.weight.any()


def test_a_stage_may_set_the_sampler(runs: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "one_step.toml"
    bank = "{ num_clips = 2, renew_every_steps = 0, window_latents = 3 }"
    recipe.write_text(
        f"[body]\nbank = {bank}\nbatch = 1\nchunks_per_clip = 1\ntime_shift = 1e5\n"
        "sigmas = [1.0, 0.0]\nstrip_steps = 0\n"
    )
    arguments = ["run", "body", "--config", str(recipe), "--data", str(runs / "data")]
    init = ["--init", str(runs / "face" / "checkpoint.safetensors")]
    result = CliRunner().invoke(
        main, [*arguments, *init, "--output", str(tmp_path / "run"), "--steps", "1"]
    )
    assert result.exit_code == 0, result.output
    model = load_checkpoint(tmp_path / "run" / "checkpoint.safetensors").model
    assert model.config.sigmas == (1.0, 0.0)
    assert model.denoiser.config.num_steps == 1


def test_latents_of_the_vae_are_normalised(runs: Path) -> None:
    scale = load_checkpoint(runs / "vae" / "checkpoint.safetensors").model.vae.scale
    assert not torch.equal(scale.std, torch.ones_like(scale.std))
    assert (scale.std > 0).all()


def test_student_is_trained_through_the_sampler_that_is_exported(runs: Path) -> None:
    model = load_checkpoint(runs / "hands" / "checkpoint.safetensors").model
    config = load_recipe("tiny", "distill")
    assert isinstance(config, DistillStageConfig)
    stage = DistillStage(
        model, config, PaintedOnDemand(ClipStore(runs / "data")), 0, autocast=False
    )
    stage.advance(0)
    levels: list[float] = []
    inner = model.denoiser.velocity

    def counted(noisy: torch.Tensor, timestep: torch.Tensor, prefill: object) -> torch.Tensor:
        if torch.is_grad_enabled():
            levels.append(round(float(timestep.flatten()[0]), 6))
        return inner(noisy, timestep, prefill)  # type: ignore[arg-type]

    model.denoiser.velocity = counted  # type: ignore[method-assign]
    stage.loss(0, torch.Generator().manual_seed(0))
    assert levels == [round(sigma, 6) for sigma in model.config.sigmas[:-1]]
    assert len(levels) == model.config.num_steps <= 4


def test_student_is_what_the_engine_runs(runs: Path) -> None:
    model = load_checkpoint(runs / "distill" / "checkpoint.safetensors").model
    graph = DenoiserGraph(model.denoiser)
    inputs = dict(zip(graph.input_names, graph.example_inputs(1), strict=True))
    noise = inputs.pop("noise")
    with torch.no_grad():
        conditions = Conditions(**inputs)
        made = model.denoiser.with_cues(model.denoiser.sample(noise, conditions), conditions)
        assert torch.equal(graph(noise, **inputs), made)


def test_student_learns_in_half_precision_after_its_own_motion(runs: Path) -> None:
    model = load_checkpoint(runs / "hands" / "checkpoint.safetensors").model
    config = load_recipe("tiny", "distill")
    assert isinstance(config, DistillStageConfig)
    stage = DistillStage(model, config, PaintedOnDemand(ClipStore(runs / "data")), 0, autocast=True)
    stage.advance(0)
    step = next(s for s in range(20) if stage.rollout_depth(s) > 0)
    with warnings.catch_warnings(), torch.autocast("cpu", torch.bfloat16):
        warnings.filterwarnings("ignore", "Mismatch dtype", UserWarning)
        loss, _ = stage.loss(step, torch.Generator().manual_seed(0))
    loss.backward()
    weight = model.denoiser.base.blocks[0].attn1.to_q.weight
    assert weight.grad is not None and weight.grad.abs().max() > 0
