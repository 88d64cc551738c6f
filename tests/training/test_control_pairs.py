"""Pairs of pictures that differ in one control: what they hold, and how a stage trains on them."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from mirrorme_model.avatar import AvatarModel
from mirrorme_model.config import coded_channels
from mirrorme_model.presets import preset
from mirrorme_training.clip_bank import Record
from mirrorme_training.clip_casting import PaintedOnDemand, to_video
from mirrorme_training.clip_store import ClipStore
from mirrorme_training.control_pairs import (
    JAW_DOWN,
    NUM_TURNED,
    REST,
    ControlPairs,
    lip_contrast,
)
from mirrorme_training.decoder_stage import DecoderStage
from mirrorme_training.portrait_identity import Identity
from mirrorme_training.recipe import DecoderStageConfig, RecipeError, load_recipe

from tests.training.training_runs import make_data

NAMES = [control.name for control in preset("tiny").controls.controls]
TURNED = ["head_yaw", "head_pitch", "head_roll", "gaze_x", "gaze_y", "breath"]
BREATHS, TURNS = 2, 3
MOVED = [name for name in NAMES if not name.startswith("head_") and name != "breath"]


@pytest.fixture(scope="module")
def model() -> AvatarModel:
    return AvatarModel.random(preset("tiny"), 0)


@pytest.fixture(scope="module")
def pairs(model: AvatarModel) -> ControlPairs:
    return ControlPairs(model, (2, 2), 5, torch.device("cpu"))


@pytest.fixture(scope="module")
def record(pairs: ControlPairs) -> Record:
    return pairs(0)


def test_all_controls_but_those_of_the_whole_picture_are_moved_by_themselves(
    pairs: ControlPairs, record: Record
) -> None:
    code = record["code"].float()
    assert len(code) == len(pairs.bases) == 2 + len(MOVED) + NUM_TURNED
    for state, name in enumerate(MOVED, start=JAW_DOWN + 1):
        base = pairs.bases[state]
        assert base == (JAW_DOWN if name == "mouthClose" else REST)
        changed = (code[state] - code[base])[8:].nonzero().flatten() + 8
        assert changed.tolist() == sorted(coded_channels(NAMES.index(name), len(NAMES)))
        value = code[state, changed].abs()
        assert (value > 0.15).all() and (value <= (0.5 if "gaze" in name else 1.0)).all()
    assert torch.equal(code[JAW_DOWN, coded_channels(NAMES.index("jawOpen"), len(NAMES))],
                       torch.tensor([0.5, 0.5]))  # fmt: skip


def test_heads_stand_a_little_turned_and_at_last_otherwise_and_not_at_all(
    pairs: ControlPairs, record: Record
) -> None:
    code = record["code"].float()
    channels = {name: coded_channels(NAMES.index(name), len(NAMES)) for name in TURNED}
    for name, own in channels.items():
        others = [state for state, moved in enumerate(MOVED, start=JAW_DOWN + 1) if moved != name]
        assert torch.equal(code[others][:, own], code[REST, own].expand(len(others), -1))
        breathed = code[-NUM_TURNED:-TURNS, own]
        assert len(breathed) == BREATHS
        same = (breathed == code[REST, own]).all(dim=1)
        assert not same.any() if name == "breath" else same.all()
        reach = 1.0 if name == "breath" else 0.3 if "gaze" in name else 4 / 30
        turned = code[[REST, -3, -2]][:, own[0]].abs()
        assert (turned > 0).all() and (turned <= reach * 1.01).all()
        assert not code[-1, own].any()
    assert pairs.bases[-NUM_TURNED:] == [REST] * NUM_TURNED
    for turn in (-3, -2, -1):
        changed = (code[turn] - code[REST])[8:].nonzero().flatten() + 8
        assert changed.tolist() == sorted(itertools.chain(*channels.values()))


def test_the_denoiser_made_them_of_what_was_asked(pairs: ControlPairs, record: Record) -> None:
    made = record["made"].float()
    assert made.shape == (len(pairs.bases), preset("tiny").vae.picture_channels, 2, 2)
    moved = (made - made[pairs.bases]).flatten(1).abs().amax(dim=1)
    assert not moved[REST] and (moved[JAW_DOWN + 1 :] > 0).all()


def test_a_number_is_a_person(model: AvatarModel, pairs: ControlPairs, record: Record) -> None:
    again = ControlPairs(model, (2, 2), 5, torch.device("cpu"))(0)
    assert all(torch.equal(again[name], value) for name, value in record.items())
    other = pairs(1)
    assert not torch.equal(other["frames"][REST], record["frames"][REST])


def test_pictures_are_of_the_person_at_rest_and_moved() -> None:
    large = AvatarModel.random(preset("tiny", width_px=256, height_px=256), 0)
    pairs = ControlPairs(large, (3, 4), 5, torch.device("cpu"))
    record = pairs(0)
    frames = record["frames"].float()
    assert frames.shape[1:] == (96, 128, 3) and record["masks"].shape == (2, 24, 32)
    moved = (frames - frames[pairs.bases]).abs().amax(dim=3)
    for state, name in enumerate(MOVED, start=JAW_DOWN + 1):
        touched = (moved[state] > 8).float().mean()
        assert 0 < touched < 0.2, name
    face = torch.nn.functional.interpolate(record["masks"][None].float(), scale_factor=4.0)[0, 0]
    most = moved[JAW_DOWN + 1 : -NUM_TURNED].amax(dim=0)
    assert most[face > 127].mean() > 4 * float(most[face == 0].mean())


def test_a_step_shows_each_person_at_rest_and_then_moved(tmp_path: Path) -> None:
    model = AvatarModel.random(preset("tiny"), 0)
    config = load_recipe("tiny", "decoder")
    assert isinstance(config, DecoderStageConfig)
    config = dataclasses.replace(config, pair_batch=5, pairs_every_steps=2)
    source = PaintedOnDemand(ClipStore(make_data(tmp_path)))
    stage = DecoderStage(model, config, source, 0, autocast=False)
    stage.advance(0)
    video, weights, made = stage._draw_pairs(torch.Generator().manual_seed(0))
    assert video.shape == made.shape == (5, 3, 16, 64, 32)
    assert weights.shape == (5, 1, 16, 64, 32)
    first, last = video[:, :, :8], video[:, :, 8:]
    assert torch.equal(first, first[:, :, :1].expand_as(first))
    assert torch.equal(last, last[:, :, :1].expand_as(last)) and not torch.equal(first, last)
    kinds = [stage.kind(step) for step in range(6)]
    assert kinds == [0, 2, 1, 2, 0, 1]  # every second is of pairs, every third of pictures
    loss, _ = stage.loss(1, torch.Generator().manual_seed(0))
    loss.backward()
    assert stage.model.vae.decoder is not None
    assert stage.model.vae.decoder.conv_in.conv.weight.grad is not None


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_pairs_may_differ_by_turns_of_the_head_and_breath_alone(
    share: float, tmp_path: Path
) -> None:
    config = load_recipe("tiny", "decoder")
    assert isinstance(config, DecoderStageConfig)
    config = dataclasses.replace(
        config, pairs_every_steps=2, paired_people=2, pair_turned_share=share
    )
    source = PaintedOnDemand(ClipStore(make_data(tmp_path)))
    stage = DecoderStage(AvatarModel.random(preset("tiny"), 0), config, source, 0, autocast=False)
    stage.advance(0)
    assert stage._pair_bank is not None
    turned = to_video(stage._pair_bank["frames"][:, -NUM_TURNED:].flatten(0, 1)[:, None])
    video, _, _ = stage._draw_pairs(torch.Generator().manual_seed(0))
    for shown in video[:, :, -1:]:
        assert (shown == turned).flatten(1).all(dim=1).any() == (share == 1.0)


def test_some_controls_may_be_shown_three_times_as_often(pairs: ControlPairs) -> None:
    first, other = MOVED[0], MOVED[-1]
    odds = pairs.odds(0.4, [first[:-1]])
    assert len(odds) == len(MOVED) + NUM_TURNED
    moved, turned = odds[: len(MOVED)], odds[len(MOVED) :]
    torch.testing.assert_close(moved.sum(), torch.tensor(0.6))
    torch.testing.assert_close(turned, torch.full_like(turned, 0.4 / NUM_TURNED))
    favoured = [name.startswith(first[:-1]) for name in MOVED]
    assert not favoured[MOVED.index(other)]
    assert moved[0] / moved[MOVED.index(other)] == pytest.approx(3)
    with pytest.raises(RecipeError, match=f"'noControl'.*{other}"):
        pairs.odds(0.4, ["noControl"])


def test_people_whose_lips_have_nearly_the_colour_of_their_skin_may_be_shown_oftener(
    model: AvatarModel,
) -> None:
    def people(share: float) -> Identity:
        pairs = ControlPairs(model, (2, 2), 5, torch.device("cpu"), faint_lips=share)
        drawn = [pairs._person(np.random.default_rng(number)) for number in range(60)]
        return Identity.join(drawn)

    whoever, half, all_faint = (people(share) for share in (0.0, 0.5, 1.0))
    faint = [float((lip_contrast(who) < 0.1).float().mean()) for who in (whoever, half, all_faint)]
    assert faint[0] < 0.3 and faint[0] + 0.1 < faint[1] < faint[2] - 0.1
    # The others are whoever comes.
    same = (half.face.skin == whoever.face.skin).all(dim=1)
    assert 0.3 < float(same.float().mean()) < 0.7


def test_lips_that_stay_closed_may_be_told_as_closed_further(tmp_path: Path) -> None:
    config = load_recipe("tiny", "decoder")
    assert isinstance(config, DecoderStageConfig)
    config = dataclasses.replace(config, pairs_every_steps=2, pair_closer_ratio=0.12)
    source = PaintedOnDemand(ClipStore(make_data(tmp_path)))
    stage = DecoderStage(AvatarModel.random(preset("tiny"), 0), config, source, 0, autocast=False)
    code = torch.zeros(6, 2, 20)
    code[1, 0, :8] = code[2, 1, 3] = 0.6  # of a tenth of the mouth's width: open
    told = stage._further_closed(code, torch.Generator().manual_seed(0))
    by = (code - told)[..., :8].amax(dim=(1, 2))
    assert torch.equal(told[1:3], code[1:3])
    shut = by[[0, 3, 4, 5]]
    assert (shut > 0).all() and (shut <= 1.2).all() and len(shut.unique()) == 4
    assert torch.equal(told[..., 8:], code[..., 8:])
    assert all(torch.equal(pair, pair[:1, :1].expand_as(pair)) for pair in told[3:, :, :8])


def test_controls_that_move_few_pixels_may_count_as_much_as_all_others(tmp_path: Path) -> None:
    config = load_recipe("tiny", "decoder")
    assert isinstance(config, DecoderStageConfig)
    config = dataclasses.replace(
        config, pair_batch=16, pairs_every_steps=2, pair_evenness=1.0, face_weight=0, mouth_weight=0
    )
    source = PaintedOnDemand(ClipStore(make_data(tmp_path)))
    model = AvatarModel.random(preset("tiny"), 0)
    stage = DecoderStage(model, config, source, 0, autocast=False)
    stage.advance(0)
    video, weights, _ = stage._draw_pairs(torch.Generator().manual_seed(0))
    moved = (video - video.mean(dim=2, keepdim=True)).square()
    seen = moved.mean(dim=(1, 2, 3, 4)) > 1e-5
    much = moved[seen].mean(dim=(1, 2, 3, 4))
    assert len(much) > 3 and much.max() > 5 * much.min()
    counted = (moved * weights).mean(dim=(1, 2, 3, 4))
    torch.testing.assert_close(counted[seen], torch.ones(int(seen.sum())))
    assert (counted[~seen] < 1).all()
