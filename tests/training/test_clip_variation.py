"""Clips that come again otherwise stay true: what belongs to a frame or a place goes with it."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch
from mirrorme_training.clip_bend import Bend
from mirrorme_training.clip_variation import STEP_FRAMES, mirrored, vary
from mirrorme_training.clip_window import ClipWindow, heard_latents
from mirrorme_training.portrait_pose import CONTROL_INDEX, CONTROLS, rest_pose, with_controls
from mirrorme_training.portrait_renderer import RenderedFrames, render
from mirrorme_training.portrait_sampler import sample_identity

NUM_LATENTS = 3
SIZE_PX = 128


def numbered() -> ClipWindow:
    """Every row says which frame it belongs to; a frame is grey of that level."""
    rows, frames = torch.arange(8 * (1 + NUM_LATENTS)), torch.arange(1 + 8 * NUM_LATENTS)
    return ClipWindow(
        frames=(100 + frames).to(torch.uint8)[:, None, None, None].expand(-1, 32, 32, 3),
        portraits=(100 + frames[::8]).to(torch.uint8)[:, None, None, None].expand(-1, 32, 32, 3),
        masks=frames.to(torch.uint8)[:, None, None, None].expand(-1, 2, 8, 8),
        pcm=torch.arange(heard_latents(NUM_LATENTS) * 16_000 // 3).float(),
        controls=rows.float()[:, None].expand(-1, len(CONTROLS)),
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
        rows = getattr(made, name).reshape(len(given.mouth), -1)[:whole].abs()
        # The last number of keypoints is what is seen, and says nothing of a place.
        assert torch.equal(rows[:, -1].long(), torch.arange(whole) + step), name


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


def test_bent_pictures_show_things_where_points_say(generator: torch.Generator) -> None:
    bend = Bend(torch.tensor([0.5, 0.5]), generator)
    places = torch.tensor([[0.3, 0.4], [0.7, 0.35], [0.45, 0.75], [0.6, 0.6]])
    spots = torch.stack([spot(place) for place in places])
    found = torch.stack([middle(picture) for picture in bend.pictures(spots)])
    assert torch.allclose(found, bend.points(places), atol=0.6 / SIZE_PX)
    assert (found - places).norm(dim=1).max() > 2 / SIZE_PX


def test_a_bent_picture_keeps_the_mouth_where_it_is(generator: torch.Generator) -> None:
    still = torch.tensor([0.47, 0.55])
    bend = Bend(still, generator)
    assert torch.allclose(bend.points(still), still, atol=1e-4)
    assert torch.allclose(middle(bend.pictures(spot(still)[None])[0]), still, atol=0.5 / SIZE_PX)


def test_in_a_mirror_left_is_right() -> None:
    values = {"eyeBlinkLeft": 0.8, "head_yaw": 12.0, "head_pitch": 5.0, "gaze_x": -0.3}
    given = rendered_window(**values)
    made = mirrored(given)
    asked = {"eyeBlinkRight": 0.8, "head_yaw": -12.0, "head_pitch": 5.0, "gaze_x": 0.3}
    for name, value in asked.items():
        assert made.controls[-1, CONTROL_INDEX[name]] == pytest.approx(value, abs=1e-6)
    assert made.controls[-1, CONTROL_INDEX["eyeBlinkLeft"]] == 0
    assert torch.equal(made.frames[0].flip(1), given.frames[0])
    # The person's left hand, seen at the right, is now their right one and seen at the left.
    assert torch.equal(made.keypoints[-1, 1, :, 1], given.keypoints[-1, 0, :, 1])
    assert torch.allclose(made.keypoints[-1, 1, :, 0], 1 - given.keypoints[-1, 0, :, 0])
    assert not made.keypoints[-1, 0].any()
    again = mirrored(made)
    for field in fields(given):
        assert torch.allclose(
            getattr(again, field.name).float(), getattr(given, field.name).float(), atol=1e-6
        ), field.name


def test_a_mirrored_head_is_turned_as_its_controls_say() -> None:
    turned = mirrored(rendered_window(head_yaw=15.0, head_roll=8.0))
    corners = [
        shown.mouth_corners_px.mean(dim=1)[0, 0] / SIZE_PX
        for shown in (painted(head_yaw=-15.0, head_roll=-8.0), painted())
    ]
    made = mouth_x(turned)
    assert abs(made - corners[0]) < abs(made - corners[1]) / 2


def painted(**controls: float) -> RenderedFrames:
    return render(sample_identity([1]), with_controls(rest_pose(1), **controls), SIZE_PX)


def rendered_window(**controls: float) -> ClipWindow:
    """One frame and its portrait; a left hand is said to be there."""
    shown = painted(**controls)
    masks = torch.stack([shown.face_mask, shown.mouth_mask], dim=1)[:, :, ::4, ::4]
    keypoints = torch.zeros(8, 2, 21, 3)
    keypoints[:, 0] = torch.tensor([0.7, 0.8, 1.0])
    return ClipWindow(
        frames=shown.frames,
        portraits=shown.frames,
        masks=masks,
        pcm=torch.zeros(heard_latents(0) * 16_000 // 3),
        controls=shown.controls.expand(8, -1),
        keypoints=keypoints,
        mouth=shown.mouth_open_ratio.expand(8),
        visemes=torch.zeros(8, dtype=torch.int64),
    )


def mouth_x(window: ClipWindow) -> float:
    return float(middle(window.masks[0, 1][..., None].expand(-1, -1, 3))[0])


def spot(place: torch.Tensor) -> torch.Tensor:
    """A soft white spot on black, `[H, W, 3]` uint8."""
    along = (torch.arange(SIZE_PX) + 0.5) / SIZE_PX
    away = (along[None, :, None] - place[0]) ** 2 + (along[:, None, None] - place[1]) ** 2
    return (255 * torch.exp(-away / 2 / 0.02**2)).to(torch.uint8).expand(-1, -1, 3)


def middle(picture: torch.Tensor) -> torch.Tensor:
    """Of what is bright in `[H, W, 3]`: x and y in 0 to 1."""
    light = picture[..., 0].double()
    along = [(torch.arange(n, dtype=torch.float64) + 0.5) / n for n in reversed(light.shape)]
    total = light.sum()
    return torch.stack([light.sum(0) @ along[0], light.sum(1) @ along[1]]).div(total).float()
