"""Stages code and decoder: each trains its own part, on what streams are made of."""

from __future__ import annotations

import dataclasses
from importlib import resources
from pathlib import Path

import pytest
import torch
from mirrorme_model.avatar import AvatarModel
from mirrorme_model.checkpoint import load_checkpoint, save_checkpoint
from mirrorme_model.presets import preset
from mirrorme_model.vae_config import HAND_CHANNELS
from mirrorme_training.clip_casting import PaintedOnDemand, to_video
from mirrorme_training.clip_store import ClipStore
from mirrorme_training.code_stage import CodeStage, true_code, with_cues
from mirrorme_training.decoder_stage import DecoderStage
from mirrorme_training.portrait_mouth import parting
from mirrorme_training.portrait_pose import rest_pose, with_controls
from mirrorme_training.portrait_renderer import render
from mirrorme_training.portrait_sampler import sample_identity
from mirrorme_training.recipe import (
    CodeStageConfig,
    DecoderStageConfig,
    RecipeError,
    load_recipe,
)

from tests.model.small_models import without_cues
from tests.training.training_runs import train


def decoder_stage(model: AvatarModel, data: Path, **settings: object) -> DecoderStage:
    config = load_recipe("tiny", "decoder")
    assert isinstance(config, DecoderStageConfig)
    config = dataclasses.replace(config, **settings)  # type: ignore[arg-type]
    return DecoderStage(model, config, PaintedOnDemand(ClipStore(data)), 0, autocast=False)


@torch.no_grad()
def test_new_cues_change_nothing() -> None:
    old = AvatarModel.random(without_cues(), 3)
    new = with_cues(old, 0)
    assert new.config == preset("tiny")
    clip = torch.randn(1, old.config.vae.latent_channels, 3, 2, 2)
    told = torch.randn(1, new.config.vae.cue_channels, 3, 2, 2)
    told[:, -HAND_CHANNELS:] = 0.0
    expected = old.vae.decode(clip)
    torch.testing.assert_close(new.vae.decode(torch.cat([clip, told], dim=1)), expected)
    assert with_cues(new, 0) is new


@torch.no_grad()
def test_a_decoder_that_sees_hands_in_its_last_stages_comes_to_see_them_in_all() -> None:
    config = preset("tiny")
    assert config.vae.decoder is not None
    decoder = dataclasses.replace(config.vae.decoder, sketched_stages=(2, 3), hand_layer=False)
    vae = dataclasses.replace(config.vae, decoder=decoder)
    old = AvatarModel.random(dataclasses.replace(config, vae=vae), 3)
    new = with_cues(old, 0)
    assert new.config == config
    window = config.vae.context_latents + 1
    clip = torch.randn(1, config.vae.latent_channels, window, 2, 2)
    was, made = (m.vae.draw_chunk(clip) for m in (old, new))
    torch.testing.assert_close(made.patches, was.patches)
    assert was.paint is None and made.paint is not None


def test_stage_code_gives_weights_a_code_and_leaves_the_rest(data: Path, tmp_path: Path) -> None:
    old = AvatarModel.random(without_cues(), 3)
    start = tmp_path / "old.safetensors"
    save_checkpoint(start, old, trained=True, provenance={})
    train("code", data, tmp_path / "run", init=start, steps=2)
    made = load_checkpoint(tmp_path / "run" / "checkpoint.safetensors").model.state_dict()
    for name, weight in old.state_dict().items():
        assert torch.equal(made[name], weight), name


def test_code_learns_what_controls_do_to_lips(data: Path) -> None:
    model = AvatarModel.random(preset("tiny"), 0)
    config = CodeStageConfig(batch=4, hearings=1)
    stage = CodeStage(model, config, ClipStore(data), 0)
    stage.advance(0)
    weights = [p for p in stage.trained.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(weights, lr=3e-3)
    losses = []
    for step in range(60):
        loss, _ = stage.loss(step, torch.Generator().manual_seed(step % 3))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]
    assert all("face_code" in name for name, p in stage.trained.named_parameters())


def test_opening_of_speech_is_that_of_pictures_for_the_mean_mouth(data: Path) -> None:
    stage = CodeStage(AvatarModel.random(preset("tiny"), 0), CodeStageConfig(), ClipStore(data), 0)
    pose = with_controls(rest_pose(9), jawOpen=torch.linspace(0, 1, 9))
    who = sample_identity([12])
    shown = render(who, pose, 128).mouth_open_ratio
    said = torch.stack(parting(pose.control)).sum(dim=0) / stage._mouth_width
    widths = stage._mouth_width / (2 * float(who.mouth.width))
    torch.testing.assert_close(shown, said * widths, atol=0.02, rtol=0.05)


def test_true_code_of_a_clip_begins_with_a_single_frame() -> None:
    code = AvatarModel.random(preset("tiny"), 0).denoiser.face_code
    assert code is not None
    opening = torch.arange(17.0) / 100
    told = true_code(code, opening, torch.zeros(17, len(code.scale)))
    torch.testing.assert_close(told[0, :8], torch.zeros(8))
    torch.testing.assert_close(told[2, :8], opening[9:] / 0.1)


def test_stage_decoder_trains_the_decoder_alone(data: Path, start: Path, tmp_path: Path) -> None:
    losses = train("decoder", data, tmp_path / "run", init=start, steps=3)
    assert len(losses) == 3
    old = load_checkpoint(start).model.state_dict()
    new = load_checkpoint(tmp_path / "run" / "checkpoint.safetensors").model.state_dict()
    moved = {name for name, weight in new.items() if not torch.equal(weight, old[name])}
    assert moved and all(name.startswith("vae.decoder.") for name in moved)


def test_layers_that_read_face_or_hands_may_learn_faster(
    data: Path, start: Path, tmp_path: Path
) -> None:
    tiny = resources.files("mirrorme_training").joinpath("recipes", "tiny.toml").read_text()
    stage = tiny.index("[decoder]")
    recipe = tmp_path / "faster.toml"
    faster = "optim = { face_rate = 5, hand_rate = 3,"
    recipe.write_text(tiny[:stage] + tiny[stage:].replace("optim = {", faster))
    old = load_checkpoint(start).model.state_dict()
    moves: dict[str, dict[str, float]] = {}
    for name in ("tiny", str(recipe)):
        folder = tmp_path / f"run-{Path(name).stem}"
        train("decoder", data, folder, init=start, steps=1, recipe=name)
        new = load_checkpoint(folder / "checkpoint.safetensors").model.state_dict()
        moves[name] = {key: float((new[key] - old[key]).abs().max()) for key in old}
    ratios = {key: moves[str(recipe)][key] / moved for key, moved in moves["tiny"].items() if moved}
    faces = {key for key in ratios if ".face_in." in key or ".flow." in key}
    hands = {key for key in ratios if ".hands_in." in key or ".hand_layer." in key}
    assert faces and hands and ratios.keys() - faces - hands
    for key, ratio in ratios.items():
        wanted = 5 if key in faces else 3 if key in hands else 1
        assert ratio == pytest.approx(wanted, rel=0.1), key


def test_stage_decoder_adds_hands_to_weights_with_a_face_code(data: Path, tmp_path: Path) -> None:
    old = AvatarModel.random(without_cues(preset("tiny").vae.face_channels), 3)
    start = tmp_path / "old.safetensors"
    save_checkpoint(start, old, trained=True, provenance={})
    train("decoder", data, tmp_path / "run", init=start, steps=2)
    made = load_checkpoint(tmp_path / "run" / "checkpoint.safetensors").model
    assert made.config == preset("tiny")
    code, before = made.denoiser.face_code, old.denoiser.face_code
    assert code is not None and before is not None
    assert torch.equal(code.output.weight, before.output.weight)


def test_squares_of_frames_and_of_latents_are_of_the_same_place(data: Path) -> None:
    torch.manual_seed(0)
    config = preset("demo", width_px=96, height_px=96)
    model = AvatarModel.random(config, 0)
    stage = decoder_stage(model, data, encoded=1.0, crop_tokens=(1, 2), batch=6)
    stage.advance(0)
    seen: list[torch.Tensor] = []
    stage._decode = lambda _, latents: seen.append(latents) or latents  # type: ignore
    video, weights, _ = stage._draw_clips(torch.Generator().manual_seed(1))
    assert video.shape == (6, 3, 24, 32, 64) and weights.shape == (6, 1, 24, 32, 64)
    # The linear path looks at one token alone, so a square's latents are those of its frames.
    lead = video[:, :, :1]
    alone = model.vae.encode(torch.cat([lead, video], dim=2)).mean.transpose(1, 2)
    pictured = seen[0][:, 1:, : config.vae.picture_channels]
    torch.testing.assert_close(alone[:, 1:], pictured, atol=0.02, rtol=0.02)


def test_clips_of_a_session_begin_at_the_portrait(data: Path) -> None:
    model = AvatarModel.random(preset("tiny"), 0)
    stage = decoder_stage(model, data, fresh=1.0)
    stage.advance(0)
    bank = stage._bank
    portraits = to_video(bank["frames"][:, :1])
    expected = model.vae.encode(portraits).mean[:, :, 0]
    torch.testing.assert_close(bank["made"][:, 0].float(), expected, atol=0.01, rtol=0.01)
    assert not torch.equal(bank["made"][:, 1:], bank["latents"][:, 1:])
    stage = decoder_stage(model, data, fresh=0.0)
    stage.advance(0)
    assert torch.equal(stage._bank["made"][:, 0], stage._bank["latents"][:, 0])


def test_squares_at_hands_and_hands_that_are_not_told(data: Path) -> None:
    model = AvatarModel.random(preset("tiny"), 0)
    stage = decoder_stage(model, data, at_hands=1.0, untold=0.0, elsewhere=0.0, crop_tokens=(1, 1))
    stage.advance(0)
    slots = torch.tensor([0, 0, 0, 0])
    hands = torch.zeros(4, 8, 2, 21, 3)
    hands[..., 0] = torch.tensor([0.25, 0.75, 0.25, 0.75])[:, None, None, None]
    hands[..., 1] = torch.tensor([0.25, 0.25, 0.75, 0.75])[:, None, None, None]
    hands[..., 2] = 1.0
    draw = torch.Generator().manual_seed(0)
    rows, columns = stage._places(slots, stage._sketch(stage._told(hands, draw)), draw)
    assert rows.tolist() == [0, 0, 1, 1] and columns.tolist() == [0, 1, 0, 1]
    untold = decoder_stage(model, data, untold=1.0)
    sketch = untold._sketch(untold._told(hands, draw))
    assert sketch is not None and not sketch.any()


def test_settings_that_do_not_fit_are_named(data: Path) -> None:
    model = AvatarModel.random(preset("tiny"), 0)
    with pytest.raises(RecipeError, match="crop_tokens"):
        decoder_stage(model, data, crop_tokens=(9, 1))
    with pytest.raises(RecipeError, match="run stage code before"):
        decoder_stage(AvatarModel.random(without_cues(), 0), data)
