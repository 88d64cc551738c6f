"""The renderer's pixels against the truth that it gives with them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from mirrorme_model.presets import PRESETS, preset
from mirrorme_training.hand_skeleton import HandShape, hand_keypoints
from mirrorme_training.portrait_identity import Identity
from mirrorme_training.portrait_pose import CONTROLS, DETAILS, Pose, rest_pose, with_controls
from mirrorme_training.portrait_renderer import RenderedFrames, render
from mirrorme_training.portrait_sampler import sample_identity

SIZE = 192


def pose_of(**values: float | torch.Tensor) -> Pose:
    return with_controls(rest_pose(1), **values)


def open_hand(side: float) -> torch.Tensor:
    shape = HandShape(
        curl=torch.full((1, 4, 3), 0.15),
        fan=torch.tensor([0.12]),
        thumb=torch.tensor([[0.8, 0.1]]),
        turn=torch.tensor([[-0.2, 0.2, -0.2]]),
        wrist=torch.tensor([[0.7 * side, 2.9, 0.8]]),
        size=torch.ones(1),
    )
    return hand_keypoints(shape, side)


def with_hands(pose: Pose) -> Pose:
    hands = torch.stack([open_hand(1.0), open_hand(-1.0)], dim=1)
    return replace(pose, hands=hands, hand_shown=torch.ones(1, 2))


def changed(a: RenderedFrames, b: RenderedFrames, *, by: int = 12) -> np.ndarray:
    """Where two pictures differ, [H, W]."""
    difference = (a.frames.int() - b.frames.int()).abs().amax(-1)
    return (difference[0] > by).numpy()


def grown(mask: np.ndarray, by: int) -> np.ndarray:
    tensor = torch.from_numpy(mask.astype(np.float32))[None, None]
    return torch.nn.functional.max_pool2d(tensor, 2 * by + 1, 1, by)[0, 0].numpy() > 0


@pytest.fixture(scope="module")
def person() -> Identity:
    return sample_identity([54])


def test_controls_are_those_of_the_model() -> None:
    for name in PRESETS:
        assert tuple(c.name for c in preset(name).controls.controls) == CONTROLS


def test_same_seed_same_picture() -> None:
    first = render(sample_identity([7]), pose_of(jawOpen=0.3), 64)
    second = render(sample_identity([7]), pose_of(jawOpen=0.3), 64)
    assert torch.equal(first.frames, second.frames)
    assert not torch.equal(
        first.frames, render(sample_identity([8]), pose_of(jawOpen=0.3), 64).frames
    )


def test_batch_equals_single() -> None:
    seeds = [0, 6, 10, 37]
    poses = [
        pose_of(jawOpen=0.5, head_yaw=12.0),
        with_hands(pose_of(mouthPucker=0.6)),
        pose_of(eyeBlinkLeft=1.0, head_pitch=-8.0),
        with_hands(pose_of(head_roll=10.0)),
    ]
    whole = render(sample_identity(seeds), Pose.join(poses), 96)
    for i, (seed, pose) in enumerate(zip(seeds, poses, strict=True)):
        alone = render(sample_identity([seed]), pose, 96)
        apart = (whole.frames[i].int() - alone.frames[0].int()).abs()
        assert apart.max() <= 1  # vector and scalar code round differently
        assert (whole.face_mask[i].int() - alone.face_mask[0].int()).abs().max() <= 1
        torch.testing.assert_close(whole.mouth_open_px[i], alone.mouth_open_px[0])
        torch.testing.assert_close(whole.hand_keypoints[i], alone.hand_keypoints[0])


def test_one_person_for_many_poses(person: Identity) -> None:
    poses = Pose.join([pose_of(jawOpen=0.2), pose_of(jawOpen=0.8)])
    shared = render(person, poses, 96)
    repeated = render(Identity.join([person, person]), poses, 96)
    assert (shared.frames.int() - repeated.frames.int()).abs().max() <= 1


def test_wrong_number_of_people(person: Identity) -> None:
    with pytest.raises(ValueError, match="2 identities for 3 poses"):
        render(Identity.join([person, person]), rest_pose(3), 64)


def test_mouth_opening_is_monotone_in_jaw_open() -> None:
    pose = with_controls(rest_pose(11), jawOpen=torch.linspace(0, 1, 11))
    for seed in (1, 54):
        frames = render(sample_identity([seed]), pose, SIZE)
        assert frames.mouth_open_px[0] == 0
        assert (frames.mouth_open_px.diff() > 0.2).all()
        assert (frames.mouth_open_ratio.diff() > 0).all()


def test_mouth_opening_is_seen_in_the_mask(person: Identity) -> None:
    """The mask's middle column grows by the opening, whatever the lips' own thickness."""
    pose = with_controls(rest_pose(5), jawOpen=torch.linspace(0, 1, 5))
    frames = render(person, pose, 512)
    column = frames.mouth_corners_px[0, :, 0].mean().round().int()
    heights = (frames.mouth_mask[:, :, column].float() / 255).sum(1)
    torch.testing.assert_close(heights - heights[0], frames.mouth_open_px, atol=1.5, rtol=0.05)


@pytest.mark.parametrize("how", ["mouthClose", "mouthPress"])
def test_lips_close_whatever_the_jaw_does(person: Identity, how: str) -> None:
    names = [how] if how in CONTROLS else [how + "Left", how + "Right"]
    values = {"jawOpen": 0.5, "mouthFunnel": 0.5, "mouthUpperUp": 0.6, "mouthLowerDown": 0.6}
    frames = render(person, pose_of(**values, **dict.fromkeys(names, 1.0)), SIZE)
    assert frames.mouth_open_px[0] == 0
    assert render(person, pose_of(**values), SIZE).mouth_open_px[0] > 2


def test_lips_are_where_the_mouth_mask_is(person: Identity) -> None:
    green = torch.tensor([[0.1, 0.9, 0.1]])
    other = replace(person, mouth=replace(person.mouth, lip=green))
    pose = pose_of(jawOpen=0.4, head_yaw=10.0)
    before, after = render(person, pose, SIZE), render(other, pose, SIZE)
    differs = changed(before, after)
    mask = before.mouth_mask[0].numpy() > 127
    assert differs.sum() > 50
    assert (differs & ~grown(mask, 2)).sum() == 0
    corners = before.mouth_corners_px[0].round().int()
    assert all(grown(mask, 2)[y, x] for x, y in corners.tolist())


def test_eyes_and_brows_are_on_the_face_mask(person: Identity) -> None:
    still = render(person, pose_of(), SIZE)
    mask = still.face_mask[0].numpy() > 127
    for values in ({"eyeBlinkLeft": 1.0, "eyeBlinkRight": 1.0}, {"gaze_x": 1.0}):
        differs = changed(still, render(person, pose_of(**values), SIZE))
        assert differs.sum() > 20
        assert (differs & ~grown(mask, 3)).sum() <= 0.02 * differs.sum()
    left, top, right, bottom = still.face_box_px[0].tolist()
    ys, xs = np.nonzero(mask)
    assert left - 8 < xs.min() < left + 25
    assert right - 25 < xs.max() < right + 8
    assert top - 30 < ys.min() < bottom < ys.max() + 12


def test_left_is_the_persons_left(person: Identity) -> None:
    """The person's left is the picture's right."""
    still = render(person, pose_of(), SIZE)
    _, xs = np.nonzero(changed(still, render(person, pose_of(eyeBlinkLeft=1.0), SIZE)))
    assert xs.mean() > still.mouth_corners_px[0, :, 0].mean()
    assert still.mouth_corners_px[0, 0, 0] > still.mouth_corners_px[0, 1, 0]


@pytest.mark.parametrize("how", ["mouthSmile", "mouthStretch"])
def test_each_corner_of_the_mouth_is_drawn_out_by_its_own_side(person: Identity, how: str) -> None:
    def corners(**values: float) -> torch.Tensor:
        return render(person, pose_of(**values), SIZE).mouth_corners_px[0, :, 0]

    still, left, right = corners(), corners(**{how + "Left": 1.0}), corners(**{how + "Right": 1.0})
    assert left[0] > still[0] + 1
    assert right[1] < still[1] - 1
    assert left[1] == still[1]
    assert right[0] == still[0]


@pytest.mark.parametrize("how", ["mouthSmile", "mouthFrown", "mouthStretch", "mouthPress"])
def test_the_sides_of_the_mouth_move_apart(person: Identity, how: str) -> None:
    still = render(person, pose_of(), 256)
    middle = int(still.mouth_corners_px[0, :, 0].mean())

    def change(side: str) -> tuple[float, float]:
        """On the person's left and right."""
        moved = render(person, pose_of(**{how + side: 1.0}), 256)
        by = (moved.frames.int() - still.frames.int()).abs().sum((0, 1, 3)).float()
        return float(by[middle:].sum()), float(by[:middle].sum())

    of_left, of_right = change("Left"), change("Right")
    assert of_left[0] > 1.5 * of_left[1]
    assert of_right[1] > 1.5 * of_right[0]


def test_head_turns_as_its_controls_say(person: Identity) -> None:
    def middle(**values: float) -> torch.Tensor:
        return render(person, pose_of(**values), SIZE).mouth_corners_px[0].mean(0)

    still = middle()
    assert middle(head_yaw=20.0)[0] > still[0] + 2 > middle(head_yaw=-20.0)[0] + 4
    assert middle(head_pitch=20.0)[1] < still[1] - 2 < middle(head_pitch=-20.0)[1] - 4
    rolled = render(person, pose_of(head_roll=20.0), SIZE).mouth_corners_px[0]
    assert rolled[0, 1] > rolled[1, 1] + 2  # clockwise: the picture's right goes down


@pytest.mark.parametrize("name", [*CONTROLS, *DETAILS])
def test_every_control_is_seen(person: Identity, name: str) -> None:
    around = {"jawOpen": 0.3} if name in {"mouthClose", *DETAILS} else {}
    still = render(person, pose_of(**around), SIZE)
    moved = render(person, pose_of(**{**around, name: 12.0 if "head" in name else 0.9}), SIZE)
    assert changed(still, moved, by=6).sum() >= 4


def test_hand_keypoints_lie_on_the_hands(person: Identity) -> None:
    pose = with_hands(pose_of())
    with_, without = render(person, pose, SIZE), render(person, pose_of(), SIZE)
    covered = grown(changed(with_, without), 1)
    points = with_.hand_keypoints[0]
    assert (points[..., 2] == 1).all()
    for x, y, _ in points.reshape(-1, 3).tolist():
        assert covered[int(y * SIZE), int(x * SIZE)]
    assert points[0, :, 0].mean() > points[1, :, 0].mean()  # left hand, picture's right
    assert (without.hand_keypoints[..., 2] == 0).all()


def test_hands_cover_the_masks(person: Identity) -> None:
    pose = with_hands(pose_of())
    lifted = pose.hands - torch.tensor([0.7, 2.1, 0.0]) * torch.tensor([[[[1.0]], [[-1.0]]]])
    lifted[:, 1] = pose.hands[:, 1] + torch.tensor([0.7, -2.1, 0.0])
    pose = replace(pose, hands=lifted)
    covered, free = render(person, pose, SIZE), render(person, pose_of(), SIZE)
    assert covered.face_mask.float().sum() < 0.8 * free.face_mask.float().sum()


def test_keypoints_outside_the_frame_are_not_visible(person: Identity) -> None:
    pose = with_hands(pose_of())
    pose = replace(pose, hands=pose.hands + torch.tensor([0.0, 3.0, 0.0]))
    assert (render(person, pose, 64).hand_keypoints[..., 2] == 0).all()
