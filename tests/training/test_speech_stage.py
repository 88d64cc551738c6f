"""The audio encoder by itself: it learns, and nothing else of the model moves."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mirrorme_model.avatar import AvatarModel
from mirrorme_model.presets import preset
from mirrorme_training.clip_store import ClipStore
from mirrorme_training.portrait_mouth import OPENING, parting
from mirrorme_training.portrait_pose import rest_pose, with_controls
from mirrorme_training.portrait_renderer import render
from mirrorme_training.portrait_sampler import sample_identity
from mirrorme_training.recipe import SpeechStageConfig
from mirrorme_training.run_state import RunError
from mirrorme_training.speech_shards import ShardConfig, write_shards
from mirrorme_training.speech_stage import SpeechStage

from tests.training.training_runs import train


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    list(write_shards(folder, ShardConfig(num_clips=20, num_frames=32, idle=1.0)))
    return folder


def test_trains_the_audio_encoder_alone(data: Path, tmp_path: Path) -> None:
    losses = train("speech", data, tmp_path / "run", steps=4)
    assert losses[-1] < losses[0]


def test_what_it_trains_is_the_audio_encoder_and_its_head(data: Path) -> None:
    model = AvatarModel.random(preset("tiny"), 0, zero_adapters=True)
    stage = SpeechStage(model, SpeechStageConfig(batch=2), ClipStore(data), 0)
    loss, numbers = stage.loss(0, torch.Generator().manual_seed(0))
    loss.backward()
    moved = {name for name, p in stage.trained.named_parameters() if p.grad is not None}
    assert {name.split(".")[0] for name in moved} == {"model", "head"}
    assert all(name.startswith(("model.audio.", "head.")) for name in moved)
    assert numbers["opening_r"].isfinite()


def test_opening_is_the_one_that_is_rendered() -> None:
    pose = with_controls(
        rest_pose(4),
        jawOpen=torch.tensor([0.0, 0.5, 1.0, 0.5]),
        mouthUpperUp=torch.tensor([0.0, 0.2, 0.0, 0.4]),
        mouthClose=torch.tensor([1.0, 0.0, 0.0, 0.5]),
    )
    said = sum(parting(pose.control)) / OPENING
    shown = render(sample_identity([3]), pose, 128).mouth_open_px
    torch.testing.assert_close(said / said.max(), shown / shown.max(), atol=0.02, rtol=0)


def strayed_after_training(data: Path, keep_tokens: float, model_seed: int) -> float:
    """How far tokens have come from where they began."""
    model = AvatarModel.random(preset("tiny"), model_seed, zero_adapters=True)
    store = ClipStore(data)
    config = SpeechStageConfig(batch=4, keep_tokens=keep_tokens)
    stage = SpeechStage(model, config, store, 0)
    pcm = 0.1 * torch.randn(4, store.num_samples, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        begun = model.audio.encode_clip(pcm, 4)
    optimizer = torch.optim.Adam(stage.trained.parameters(), 3e-3)
    for step in range(12):
        loss, numbers = stage.loss(step, torch.Generator().manual_seed(step))
        assert ("strayed" in numbers) == (keep_tokens > 0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        now = model.audio.encode_clip(pcm, 4)
    return float((now - begun).square().mean() / begun.var())


def test_kept_tokens_stay_what_a_denoiser_knows(data: Path) -> None:
    # Some models stray much farther than others in so few steps, kept or not.
    kept, free = (
        sum(strayed_after_training(data, keep_tokens, seed) for seed in range(4))
        for keep_tokens in (10.0, 0.0)
    )
    assert kept < 0.5 * free


def test_tokens_of_no_checkpoint_cannot_be_kept(data: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="keep_tokens wants --init"):
        train("speech", data, tmp_path / "run", recipe="demo-voices")
