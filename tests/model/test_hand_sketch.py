"""Hands in latents, and the sketch made of them: where it draws, and how the decoder sees it."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from mirrorme_model.avatar import AvatarModel
from mirrorme_model.config import ModelConfig
from mirrorme_model.denoiser import join_cues
from mirrorme_model.errors import ConfigError
from mirrorme_model.hand_cues import hand_cues, told_hands
from mirrorme_model.hand_sketch import HandSketch, to_cells
from mirrorme_model.presets import preset
from mirrorme_model.vae_config import HAND_CHANNELS

from tests.model.small_models import example

INDEX_KNUCKLE, INDEX_MIDDLE, INDEX_TIP = 5, 6, 8


SIDE_TOKENS = 2
"""Of preset `tiny`."""


def cells(hands: torch.Tensor) -> torch.Tensor:
    """Of keypoints over a frame, `[B, 4·F, H, W]`."""
    told = told_hands(hand_cues(hands, SIDE_TOKENS, SIDE_TOKENS))
    return to_cells(HandSketch()(told, SIDE_TOKENS, SIDE_TOKENS))


def told(latents: torch.Tensor, code: torch.Tensor, hands: torch.Tensor) -> torch.Tensor:
    """`[B, C, F, h, w]` as the VAE decodes them."""
    cues = hand_cues(hands, *latents.shape[3:])
    return join_cues(latents, code, cues).transpose(1, 2)


def sketched_in(*stages: int) -> ModelConfig:
    config = preset("tiny")
    assert config.vae.decoder is not None
    decoder = dataclasses.replace(config.vae.decoder, sketched_stages=stages, hand_layer=False)
    return dataclasses.replace(config, vae=dataclasses.replace(config.vae, decoder=decoder))


def no_hands(num_latents: int = 1) -> torch.Tensor:
    return torch.zeros(1, 8 * num_latents, 2, 21, 3)


def test_every_part_of_a_picture_is_told_where_hands_are() -> None:
    hands = torch.rand(2, 24, 2, 21, 3)
    cues = hand_cues(hands, 3, 4)
    assert cues.shape == (2, 3, HAND_CHANNELS, 3, 4)
    for row, column in ((0, 0), (2, 1)):
        got = told_hands(cues[..., row:, column : column + 2])
        tokens = hands[..., :2] * torch.tensor([4.0, 3.0]) - torch.tensor([column, row])
        torch.testing.assert_close(got[..., :2], tokens, atol=1e-5, rtol=0)
        assert torch.equal(got[..., 2], hands[..., 2])
    assert not hand_cues(hands * torch.tensor([1.0, 1.0, 0.0]), 3, 4).any()


def test_keypoints_are_drawn_where_they_are() -> None:
    hands = no_hands()
    hands[0, 5, 1, INDEX_TIP] = torch.tensor([41 / 64, 18 / 64, 1.0])
    drawn = cells(hands)[0]
    assert not drawn[[0, 1, 3]].any()  # those of frames 1, 3 and 7
    row, column = divmod(int(drawn[2].argmax()), drawn.shape[2])
    assert (row, column) == (18 // 4, 41 // 4)
    assert drawn[2].max() > 0.5 and not drawn[2, :, :5].gt(1e-3).any()


def test_bones_are_drawn_between_keypoints_that_are_given() -> None:
    hands = no_hands()
    hands[0, :, 0, INDEX_KNUCKLE] = torch.tensor([10 / 64, 30 / 64, 1.0])
    hands[0, :, 0, INDEX_MIDDLE] = torch.tensor([34 / 64, 30 / 64, 1.0])
    between = slice(16 // 4, 29 // 4)
    assert (cells(hands)[0, 0, 30 // 4, between] > 0.1).all()
    hands[0, :, 0, INDEX_MIDDLE, 2] = 0.0
    assert (cells(hands)[0, 0, 30 // 4, between] < 0.1).all()


def test_fingertips_are_brighter_than_knuckles() -> None:
    def brightest(point: int) -> float:
        hands = no_hands()
        hands[0, :, 0, point] = torch.tensor([0.5, 0.5, 1.0])
        return float(cells(hands).max())

    assert brightest(INDEX_TIP) > 1.2 * brightest(INDEX_KNUCKLE)


@pytest.mark.parametrize(
    ("stage", "frames", "nearer"), [(1, [5, 6, 7, 8], 1), (2, [7, 8], 4), (3, [7, 8], 4)]
)
@torch.no_grad()
def test_a_stage_of_the_decoder_sees_a_hand_in_its_frames_and_at_its_place(
    stage: int, frames: list[int], nearer: float
) -> None:
    vae = AvatarModel.random(sketched_in(stage), 0).vae
    torch.manual_seed(0)
    latents = torch.randn(1, 3, vae.config.picture_channels, 2, 2)
    code = torch.zeros(1, 3, vae.config.face_channels)
    hands = no_hands(3)
    before = vae.decode(told(latents, code, hands))
    # The last two frames of the second latent, whose first frame is the clip's second.
    hands[0, 14:16, 0, INDEX_TIP] = torch.tensor([8 / 64, 8 / 64, 1.0])
    changed = vae.decode(told(latents, code, hands)) - before
    by_frame = changed[0].any(dim=0).flatten(1).any(dim=1)
    assert by_frame.nonzero().flatten().tolist() == frames
    changed = changed.abs()
    assert changed[..., :32, :32].mean() > nearer * changed[..., 32:, 32:].mean()


@torch.no_grad()
def test_the_decoder_sees_each_of_a_latents_sketches_from_the_first_stage_on() -> None:
    vae = AvatarModel.random(sketched_in(0), 0).vae
    torch.manual_seed(0)
    latents = torch.randn(1, 3, vae.config.picture_channels, 2, 2)
    code = torch.zeros(1, 3, vae.config.face_channels)
    before = vae.decode(told(latents, code, no_hands(3)))
    for frame in (9, 11, 13, 15):
        hands = no_hands(3)
        hands[0, frame, 0, INDEX_TIP] = torch.tensor([8 / 64, 8 / 64, 1.0])
        changed = vae.decode(told(latents, code, hands)) - before
        by_frame = changed[0].any(dim=0).flatten(1).any(dim=1)
        # The whole latent, which begins with the clip's second frame, and what looks back at it.
        assert not by_frame[0] and by_frame[1:9].all()


@torch.no_grad()
def test_chunks_with_hands_equal_the_whole_clip(tiny: AvatarModel) -> None:
    vae = tiny.vae
    torch.manual_seed(1)
    latents = torch.randn(1, 5, vae.config.picture_channels, 2, 2)
    hands = torch.rand(1, 40, 2, 21, 3)
    clip = told(latents, torch.zeros(1, 5, vae.config.face_channels), hands)
    whole = vae.decode(clip)
    context = vae.config.context_latents
    for start in range(1, 5):
        window = [max(0, latent) for latent in range(start - context, start + 1)]
        made = vae.decode_chunk(clip[:, :, window])
        torch.testing.assert_close(made, whole[:, :, 8 * start - 7 : 8 * start + 1])


@torch.no_grad()
def test_given_hands_are_in_the_engines_latents(tiny: AvatarModel) -> None:
    noise, conditions = example(tiny.denoiser)
    latents = tiny.denoiser.with_cues(tiny.denoiser.sample(noise, conditions), conditions)
    assert latents.shape[2] == tiny.config.vae.latent_channels
    hands = latents[:, :, -tiny.config.vae.hand_channels :]
    assert torch.equal(hands, hand_cues(conditions.hand_keypoints, *latents.shape[3:]))
    assert hands.any()


def test_channels_must_be_those_of_hands() -> None:
    config = preset("tiny")
    with pytest.raises(ConfigError, match="hand_channels"):
        dataclasses.replace(config.vae, hand_channels=7)
    with pytest.raises(ConfigError, match="want hands"):
        dataclasses.replace(config, hands=None)
    with pytest.raises(ConfigError, match=r"sketched_stages .* 0 to 3"):
        sketched_in(4)
