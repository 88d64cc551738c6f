"""Identities: reproducible, varied, and whole pictures."""

from __future__ import annotations

import torch
from mirrorme_training.portrait_pose import rest_pose
from mirrorme_training.portrait_renderer import render
from mirrorme_training.portrait_sampler import sample_identity


def test_a_seed_is_the_same_person_in_any_batch() -> None:
    several = sample_identity([5, 123_456_789, 9])
    alone = sample_identity([123_456_789])
    assert torch.equal(several.face.skin[1:2], alone.face.skin)
    assert torch.equal(several.hair.phase[1:2], alone.hair.phase)
    assert torch.equal(several.backdrop.phase[1:2], alone.backdrop.phase)


def test_close_up_is_the_same_person() -> None:
    near, far = sample_identity([5], close_up=True), sample_identity([5])
    assert torch.equal(near.face.skin, far.face.skin)
    assert torch.equal(near.clothes.main, far.clothes.main)
    assert near.framing.view_height < far.framing.view_height


def test_people_differ() -> None:
    frames = render(sample_identity(range(24)), rest_pose(24), 48).frames.float()
    apart = torch.cdist(frames.flatten(1), frames.flatten(1)) / frames[0].numel() ** 0.5
    apart.fill_diagonal_(1e9)
    assert apart.min() > 12  # root mean square, of 255


def test_all_parts_are_drawn_over_many_seeds() -> None:
    people = sample_identity(range(400))
    for part in (
        people.glasses.amount,
        people.beard.full,
        people.beard.moustache,
        people.hair.bun,
        people.clothes.jacket,
        people.clothes.stripes,
        people.backdrop.shelf,
        people.face.freckles,
    ):
        share = (part > 0).float().mean()
        assert 0.01 < share < 0.6
    assert people.face.skin.mean(1).std() > 0.1
    assert torch.isfinite(people.eyes.iris).all()
