"""Clips that come again otherwise stay true: what belongs to a frame goes where the frame goes."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch
from mirrorme_training.clip_variation import STEP_FRAMES, vary
from mirrorme_training.clip_window import ClipWindow, heard_latents

NUM_LATENTS = 3


def numbered() -> ClipWindow:
    """Every row says which frame it belongs to; a frame is grey of that level."""
    rows, frames = torch.arange(8 * (1 + NUM_LATENTS)), torch.arange(1 + 8 * NUM_LATENTS)
    return ClipWindow(
        frames=(100 + frames).to(torch.uint8)[:, None, None, None].expand(-1, 32, 32, 3),
        portraits=(100 + frames[::8]).to(torch.uint8)[:, None, None, None].expand(-1, 32, 32, 3),
        masks=frames.to(torch.uint8)[:, None, None, None].expand(-1, 2, 8, 8),
        pcm=torch.arange(heard_latents(NUM_LATENTS) * 16_000 // 3).float(),
        controls=rows.float()[:, None].expand(-1, 4),
        keypoints=rows.float()[:, None, None, None].expand(-1, 2, 21, 3),
        mouth=rows.float(),
        visemes=rows,
    )


@pytest.fixture(params=range(8))
def generator(request: pytest.FixtureRequest) -> torch.Generator:
    return torch.Generator().manual_seed(request.param)


def test_all_of_a_clip_begins_later_by_the_same_time(generator: torch.Generator) -> None:
    given = numbered()
    made = vary(given, generator)
    shapes = {field.name: getattr(made, field.name).shape for field in fields(made)}
    assert shapes == {field.name: getattr(given, field.name).shape for field in fields(given)}
    step = int(made.masks[0, 0, 0, 0])
    assert step in (0, STEP_FRAMES, 2 * STEP_FRAMES)
    assert made.pcm[0] == step * 2000 / STEP_FRAMES
    whole = 8 * NUM_LATENTS
    for name in ("controls", "keypoints", "mouth", "visemes"):
        rows = getattr(made, name).reshape(len(given.mouth), -1)[:whole, 0]
        assert torch.equal(rows.long(), torch.arange(whole) + step), name


def test_frames_keep_their_order_of_light(generator: torch.Generator) -> None:
    made = vary(numbered(), generator).frames[: 1 + 8 * (NUM_LATENTS - 1), 0, 0].float()
    assert (made[-1] - made[0] > 8).all()
    assert (made.diff(dim=0) >= 0).all()


def test_portraits_are_seen_in_the_same_colours(generator: torch.Generator) -> None:
    made = vary(numbered(), generator)
    step = int(made.masks[0, 0, 0, 0])
    assert torch.equal(made.portraits[1], made.frames[8 - step])


def test_starts_and_colours_differ() -> None:
    made = [vary(numbered(), torch.Generator().manual_seed(seed)) for seed in range(12)]
    assert len({int(clip.masks[0, 0, 0, 0]) for clip in made}) == 3
    assert len({tuple(clip.frames[0, 0, 0].tolist()) for clip in made}) == 12
