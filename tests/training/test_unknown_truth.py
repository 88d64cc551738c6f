"""What recordings do not know is neither guessed nor learnt from."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest
import torch
from mirrorme_model.avatar import AvatarModel
from mirrorme_model.presets import preset
from mirrorme_training.clip_casting import PaintedOnDemand
from mirrorme_training.clip_store import ClipStore
from mirrorme_training.clip_window import UNKNOWN_VISEME, ClipWindow
from mirrorme_training.flow_stage import FlowStage
from mirrorme_training.recipe import BankConfig, DropoutConfig, FlowStageConfig
from mirrorme_training.speech_head import SpeechHead

CONFIG = preset("tiny").audio
NUM_SHAPES = 3


class Recorded(PaintedOnDemand):
    """Clips of which nobody knows controls and visemes."""

    def window(self, number: int, bank: BankConfig, size_px: int, seed: int) -> ClipWindow:
        known = super().window(number, bank, size_px, seed)
        return dataclasses.replace(
            known,
            controls=torch.full_like(known.controls, math.nan),
            visemes=torch.full_like(known.visemes, UNKNOWN_VISEME),
        )


def test_speech_head_learns_from_what_is_known_alone() -> None:
    torch.manual_seed(0)
    head = SpeechHead(CONFIG, NUM_SHAPES)
    tokens = torch.randn(2, 2, CONFIG.num_speech_tokens + 1, CONFIG.token_width)
    shapes, visemes = torch.rand(2, 16, NUM_SHAPES), torch.randint(0, 5, (2, 16))
    unknown_shapes, unknown_visemes = shapes.clone(), visemes.clone()
    unknown_shapes[1], unknown_visemes[1] = math.nan, UNKNOWN_VISEME
    whole, _ = head.loss(tokens[:1], shapes[:1], visemes[:1])
    half, _ = head.loss(tokens, unknown_shapes, unknown_visemes)
    assert torch.allclose(whole, half, atol=1e-5)
    none, right = head.loss(
        tokens, torch.full_like(shapes, math.nan), torch.full_like(visemes, UNKNOWN_VISEME)
    )
    assert none == 0 and right == 0


@pytest.mark.parametrize("tell_movement", [False, True])
def test_stages_train_on_recordings(data: Path, tell_movement: bool) -> None:
    model = AvatarModel.random(preset("tiny"), 0, zero_adapters=True)
    bank = BankConfig(num_clips=2, renew_every_steps=0, window_latents=3)
    config = FlowStageConfig(
        bank=bank, batch=2, chunks_per_clip=2, rollout_chunks=1, tell_movement=tell_movement,
        dropout=DropoutConfig(controls=0.0),
    )  # fmt: skip
    source = Recorded(ClipStore(data))
    stage = FlowStage(model, config, source, 0, autocast=False)
    stage.advance(0)
    step = next(step for step in range(20) if stage.rollout_depth(step) == 1)
    loss, numbers = stage.loss(step, torch.Generator().manual_seed(0))
    loss.backward()
    gradients = [p.grad for p in stage.trained.parameters() if p.grad is not None]
    assert math.isfinite(float(loss.detach())) and float(numbers["flow"]) > 0
    assert all(bool(g.isfinite().all()) for g in gradients)
