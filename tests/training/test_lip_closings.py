"""Which frames of a mouth count as lips that close for a moment."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from mirrorme_model.avatar import AvatarModel
from mirrorme_model.presets import preset
from mirrorme_training.clip_casting import PaintedOnDemand
from mirrorme_training.clip_store import ClipStore
from mirrorme_training.decoder_stage import DecoderStage
from mirrorme_training.lip_closings import lip_closings
from mirrorme_training.recipe import DecoderStageConfig, load_recipe

from tests.training.training_runs import make_data


def closings(*opening: float) -> list[int]:
    return lip_closings(torch.tensor([opening]))[0].nonzero().flatten().tolist()


def test_lips_that_close_between_open_ones_count() -> None:
    assert closings(0.3, 0.2, 0.02, 0.0, 0.2, 0.3) == [2, 3]


def test_lips_at_rest_do_not() -> None:
    assert closings(*[0.0] * 12) == []
    assert closings(*[0.3] * 3, *[0.0] * 9) == []
    assert closings(*[0.0] * 9, *[0.3] * 3) == []


def test_a_pause_counts_at_neither_end() -> None:
    assert closings(*[0.3] * 4, *[0.0] * 10, *[0.3] * 4) == []


def test_lips_that_only_come_nearer_or_were_hardly_open_do_not() -> None:
    assert closings(0.3, 0.3, 0.08, 0.3, 0.3) == []
    assert closings(0.08, 0.08, 0.02, 0.08, 0.08) == []


def test_clips_are_looked_at_one_by_one() -> None:
    both = lip_closings(torch.tensor([[0.3, 0.3, 0.0], [0.0, 0.3, 0.3]]))
    assert not both.any()


def test_a_stage_draws_such_clips_and_weighs_their_mouths(tmp_path: Path) -> None:
    config = load_recipe("tiny", "decoder")
    assert isinstance(config, DecoderStageConfig)
    config = dataclasses.replace(
        config, batch=6, mouth_weight=0, face_weight=0, hand_weight=0, closing_weight=5.0,
        closing_share=1.0,
    )  # fmt: skip
    source = PaintedOnDemand(ClipStore(make_data(tmp_path)))
    model = AvatarModel.random(preset("tiny"), 0)
    stage = DecoderStage(model, config, source, 0, autocast=False)
    stage.advance(0)
    chosen, frame = 1, 10
    code = stage._bank["code"]
    code[..., :8] = 3.0
    latent, within = divmod(frame, 8)
    code[chosen, 1 + latent, within] = 0.0
    stage._bank["frame_masks"][:] = 255
    stage._bank["frames"][:] = 0
    stage._bank["frames"][chosen] = 255
    video, weights, _ = stage._draw_clips(torch.Generator().manual_seed(0))
    assert (video == 1).all()
    assert (weights[:, :, frame] == 6.0).all()
    assert (weights[:, :, :frame] == 1.0).all() and (weights[:, :, frame + 1 :] == 1.0).all()
