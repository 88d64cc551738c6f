"""Hands laid over frames: their shapes, what colours they take, and what stays as it is."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from mirrorme_model.avatar import AvatarModel
from mirrorme_model.errors import ConfigError
from mirrorme_model.hand_layer import (
    HandLayer,
    Shapes,
    hand_shapes,
    lay_hands,
    lay_shown_hands,
    shows_hands,
)
from mirrorme_model.presets import preset
from mirrorme_model.vae_graphs import DecoderGraph
from mirrorme_training.motion_gestures import hand_motion
from mirrorme_training.portrait_pose import rest_pose
from mirrorme_training.portrait_renderer import render
from mirrorme_training.portrait_sampler import sample_identity
from torch import Tensor

SIZE_PX = 128
WRIST, INDEX_TIP, LITTLE_TIP = 0, 8, 20
LEFT, RIGHT = 0, 1
FLAT = torch.tensor(
    [
        [0.0, 0.0], [-0.13, -0.11], [-0.22, -0.28], [-0.28, -0.41], [-0.33, -0.52],
        [-0.135, -0.455], [-0.18, -0.67], [-0.2, -0.8], [-0.22, -0.91],
        [-0.035, -0.48], [-0.045, -0.725], [-0.05, -0.88], [-0.055, -0.995],
        [0.065, -0.455], [0.09, -0.684], [0.105, -0.828], [0.115, -0.937],
        [0.15, -0.4], [0.21, -0.565], [0.245, -0.664], [0.275, -0.754],
    ]
)  # fmt: skip
"""Fingers up and spread, in hands' lengths."""


def flat_hand(length_px: float, wrist_px: tuple[float, float], side: int = LEFT) -> Tensor:
    """`[1, 2, 21, 3]` as layers are told it; the other hand is not given."""
    hands = torch.zeros(1, 2, 21, 3)
    hands[0, side, :, :2] = (FLAT * length_px + torch.tensor(wrist_px)) / 32
    hands[0, side, :, 2] = 1.0
    return hands


def at(shapes: Tensor, hands: Tensor, point: int, side: int = LEFT) -> float:
    column, row = (hands[0, side, point, :2] * 32).int().tolist()
    return float(shapes[0, 0, row, column])


def shapes_of(hands: Tensor) -> Shapes:
    return hand_shapes(hands, SIZE_PX, SIZE_PX)


def test_a_hand_covers_its_keypoints_and_not_what_is_between_fingers() -> None:
    hands = flat_hand(80, (64, 110))
    cover = shapes_of(hands).cover
    assert all(at(cover, hands, point) > 0.99 for point in range(21))
    between = (hands[0, LEFT, INDEX_TIP, :2] + hands[0, LEFT, 4, :2]) / 2 * 32
    assert cover[0, 0, int(between[1]), int(between[0])] < 0.1
    assert 0.1 < float(cover.mean()) / (80 / SIZE_PX) ** 2 < 0.6


def test_hands_that_are_not_given_cover_nothing() -> None:
    hands = torch.rand(2, 2, 21, 3) * 4
    hands[..., 2] = 0.0
    assert not any(part.any() for part in shapes_of(hands))


def test_bones_without_one_of_their_ends_are_left_out() -> None:
    hands = flat_hand(80, (64, 110))
    without = hands.clone()
    without[0, LEFT, INDEX_TIP] = 0.0
    cover = shapes_of(without).cover
    assert at(cover, hands, INDEX_TIP) == 0 and at(cover, hands, LITTLE_TIP) > 0.99


def test_shapes_go_with_the_hand() -> None:
    cover = shapes_of(flat_hand(40, (50, 80))).cover
    moved = shapes_of(flat_hand(40, (62, 73))).cover
    torch.testing.assert_close(
        moved[..., 10:80, 40:100], cover[..., 17:87, 28:88], atol=0.02, rtol=0
    )
    larger = shapes_of(flat_hand(80, (64, 110))).cover
    assert float(larger.sum() / cover.sum()) == pytest.approx(4.0, rel=0.05)


def test_a_hand_that_points_at_the_viewer_is_as_thick_as_its_longest_bone_says() -> None:
    hands = flat_hand(80, (64, 110))
    short = hands.clone()
    short[..., 1] = 110 / 32 + (hands[..., 1] - 110 / 32) * 0.3
    # The knuckles are as far apart as before.
    assert at(shapes_of(short).cover, short, WRIST) > 0.99
    rows = shapes_of(short).cover[0, 0].amax(dim=1).nonzero().flatten()
    assert len(rows) > 0.35 * 80


def test_outlines_are_inside_and_the_right_hand_hides_those_of_the_left() -> None:
    left = flat_hand(80, (64, 110))
    cover, lines = shapes_of(left)
    assert lines.max() > 0.8 and (lines <= cover + 1e-6).all()
    assert at(lines, left, INDEX_TIP) < 0.5
    alone = shapes_of(flat_hand(80, (64, 110), side=RIGHT))
    torch.testing.assert_close(alone.cover, cover)
    right = flat_hand(80, (50, 85), side=RIGHT)
    over = shapes_of(right)
    hidden = (lines > 0.5) & (over.cover == 1) & (over.lines < 0.01)
    assert hidden.sum() > 10 and shapes_of(left + right).lines[hidden].max() < 0.02


def test_drawn_hands_have_the_shape_that_is_told() -> None:
    """What is covered has the colour of skin, and little of what is around it."""
    frames = 24
    hands, shown = hand_motion("both", np.ones(frames), np.zeros(frames), np.random.default_rng(3))
    pose = dataclasses.replace(rest_pose(frames), hands=hands, hand_shown=shown)
    pose = pose[::6]
    painted = render(sample_identity([3]), pose, 256)
    keypoints = painted.hand_keypoints.clone()
    keypoints[..., :2] *= 256 / 32
    cover = hand_shapes(keypoints, 256, 256).cover[:, 0] > 0.5
    skin = painted.frames.float()
    inside = torch.stack([frame[c].mean(dim=0) for frame, c in zip(skin, cover, strict=True)])
    like_skin = (skin - inside[:, None, None]).norm(dim=-1) < 60
    assert like_skin[cover].float().mean() > 0.8
    ring = torch.nn.functional.max_pool2d(cover[:, None].float(), 9, 1, 4)[:, 0].bool() & ~cover
    assert like_skin[ring].float().mean() < 0.45


def test_hands_take_the_colour_that_frames_have_inside_them() -> None:
    torch.manual_seed(0)
    hands = flat_hand(80, (64, 110))
    cover, _ = shapes_of(hands)
    frames = torch.rand(1, 3, SIZE_PX, SIZE_PX) - 0.5
    patches = torch.nn.functional.pixel_unshuffle(frames, 4)
    paint = torch.zeros(1, 5, SIZE_PX // 4, SIZE_PX // 4)
    paint[:, -HandLayer.CHANNELS[-1] :] = 20.0
    made = lay_hands(frames, patches, paint, hands)
    inside = made[:, :, cover[0, 0] == 1]
    assert inside.std(dim=2).max() < 0.01
    assert inside.mean(dim=2).abs().max() < 0.1
    outside = cover.expand_as(made) == 0
    assert torch.equal(made[outside], frames[outside])
    paint[:, -HandLayer.CHANNELS[-1] :] = -20.0
    torch.testing.assert_close(lay_hands(frames, patches, paint, hands), frames)


def test_frames_that_no_hand_reaches_are_left_out_and_nothing_else_changes() -> None:
    torch.manual_seed(0)
    wrists = [(64, 110), (-20, 60), (-80, 60), (64, 230), (64, 180), (170, 60), (128, 120)]
    hands = torch.cat([flat_hand(40, wrist, side=i % 2) for i, wrist in enumerate(wrists)])
    hands = torch.cat([hands, torch.zeros(1, 2, 21, 3)])
    shown = shows_hands(hands, SIZE_PX, SIZE_PX)
    assert shown is not None and not shown.all()
    covered = shapes_of(hands).cover.flatten(1).any(dim=1)
    assert covered.any() and not (covered & ~shown).any()
    frames = torch.rand(len(hands), 3, SIZE_PX, SIZE_PX)
    patches = torch.nn.functional.pixel_unshuffle(frames, 4)
    paint = torch.randn(len(hands), 5, SIZE_PX // 4, SIZE_PX // 4)
    some = lay_shown_hands(frames, patches, paint, hands)
    torch.testing.assert_close(some, lay_hands(frames, patches, paint, hands))


def test_layers_learn_nothing_where_no_hand_is_but_are_asked() -> None:
    """Several processes wait for the gradients of all weights."""
    frames, hands = torch.rand(2, 3, SIZE_PX, SIZE_PX), torch.zeros(2, 2, 21, 3)
    paint = torch.randn(2, 5, SIZE_PX // 4, SIZE_PX // 4, requires_grad=True)
    made = lay_shown_hands(frames, torch.nn.functional.pixel_unshuffle(frames, 4), paint, hands)
    assert torch.equal(made, frames)
    made.sum().backward()
    assert paint.grad is not None and not paint.grad.any()


@torch.no_grad()
def test_the_engine_lays_hands_as_the_model_does(tiny: AvatarModel) -> None:
    vae = tiny.vae
    assert vae.decoder is not None and vae.decoder.hand_layer is not None
    window = torch.randn(2, vae.config.context_latents + 1, tiny.config.vae.latent_channels, 2, 2)
    window[:, :, : vae.config.picture_channels] *= 0.05
    made = DecoderGraph(vae)(window).permute(0, 4, 1, 2, 3).float()
    expected = (vae.decode_chunk(window.transpose(1, 2)).clamp(-1, 1) + 1) * 127.5
    untold = window.clone()
    untold[:, :, -tiny.config.vae.hand_channels :] = 0
    assert (
        vae.decode_chunk(untold.transpose(1, 2)) - vae.decode_chunk(window.transpose(1, 2))
    ).any()
    # The engine cuts off what bytes do not hold before hands are laid over as well.
    within = (expected > 8) & (expected < 247)
    assert within.float().mean() > 0.9
    assert (made - expected).abs()[within].quantile(0.99) < 0.6


def test_a_hand_layer_wants_hands_and_a_causal_decoder() -> None:
    vae = preset("tiny").vae
    with pytest.raises(ConfigError, match="hand_layer wants hand_channels"):
        dataclasses.replace(
            vae, latent_channels=vae.latent_channels - vae.hand_channels, hand_channels=0
        )
    assert vae.decoder is not None
    with pytest.raises(ConfigError, match="hand_layer wants a causal decoder"):
        dataclasses.replace(vae.decoder, flow=False, temporal_kernels=(1, 1, 1, 2))
