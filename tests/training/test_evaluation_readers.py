"""Measures tell the truth about renderings, and nothing about noise."""

import dataclasses

import numpy as np
import pytest
import torch
from mirrorme_training.evaluation.control_reader import ControlReader
from mirrorme_training.evaluation.curves import correlation
from mirrorme_training.evaluation.face_reader import CLOSED_RATIO, FaceReader
from mirrorme_training.evaluation.fitting_poses import control_reach, swept_pose, talking_poses
from mirrorme_training.evaluation.hand_finder import find_keypoints, pck
from mirrorme_training.evaluation.unseen import PEOPLE, person
from mirrorme_training.motion_gestures import hand_motion
from mirrorme_training.portrait_pose import CONTROL_INDEX, rest_pose
from mirrorme_training.portrait_renderer import RenderedFrames, render

SIZE_PX = 128


@pytest.fixture(scope="module")
def reader() -> FaceReader:
    return FaceReader(person(PEOPLE[0]), SIZE_PX, num_poses=160)


@pytest.fixture(scope="module")
def talking() -> RenderedFrames:
    return render(person(PEOPLE[0]), talking_poses(99, 96), SIZE_PX)


def noise(frames: torch.Tensor) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, frames.shape, dtype=np.uint8)


def test_reads_how_far_the_mouth_is_open(reader: FaceReader, talking: RenderedFrames) -> None:
    read = reader.read(talking.frames.numpy()).mouth_opening
    truth = talking.mouth_open_ratio.double().numpy()
    assert correlation(read, truth) >= 0.95
    assert ((read < CLOSED_RATIO) == (truth < CLOSED_RATIO)).mean() >= 0.9


def test_shuffled_frames_do_not_follow_the_truth(
    reader: FaceReader, talking: RenderedFrames
) -> None:
    order = np.random.default_rng(0).permutation(len(talking))
    read = reader.read(talking.frames.numpy()[order]).mouth_opening
    assert abs(correlation(read, talking.mouth_open_ratio.double().numpy())) < 0.3


def test_noise_does_not_open_the_mouth(reader: FaceReader, talking: RenderedFrames) -> None:
    read = reader.read(noise(talking.frames)).mouth_opening
    truth = talking.mouth_open_ratio.double().numpy()
    assert read.std() < 0.5 * truth.std()
    assert abs(correlation(read, truth)) < 0.3


def test_reads_blinks(reader: FaceReader, talking: RenderedFrames) -> None:
    truth = talking.controls[:, CONTROL_INDEX["eyeBlinkLeft"]].double().numpy()
    read = reader.read(talking.frames.numpy()).eyes_closed
    assert correlation(read, truth) >= 0.8


SUBTLE = (
    "mouthClose",
    "mouthFunnel",
    "mouthPressLeft",
    "mouthPressRight",
    "noseSneerLeft",
    "noseSneerRight",
    "mouthStretchLeft",
    "mouthStretchRight",
)
"""They move lips or nose by a pixel or two."""


@pytest.mark.slow
def test_reads_every_control() -> None:
    someone = person(PEOPLE[3])
    reader = ControlReader(someone, 256, num_poses=540)
    poor = {}
    for name in CONTROL_INDEX:
        low, high = control_reach(name)
        values = torch.linspace(low, high, 16).repeat(2)
        frames = render(someone, swept_pose(5, name, values), 256).frames.numpy()
        r = correlation(reader.read(frames)[name], values.double().numpy())
        if r < (0.4 if name in SUBTLE else 0.7):
            poor[name] = r
    assert not poor


def gesturing(seed: int, shift: float = 0.0) -> RenderedFrames:
    """Four frames of two hands, moved to the right by world units."""
    random = np.random.default_rng(seed)
    hands, shown = hand_motion("both", np.ones(48), np.zeros(48), random)
    hands[..., 0] += shift
    pose = dataclasses.replace(rest_pose(48), hands=hands, hand_shown=shown)
    return render(person(PEOPLE[5]), pose[::12], SIZE_PX)


def share_found(frames: np.ndarray, given: RenderedFrames) -> float:
    distances, sizes = [], []
    for index, hands in enumerate(given.hand_keypoints.double().numpy()):
        for hand in hands:
            seen = hand[:, 2] > 0
            points = hand[seen, :2] * SIZE_PX
            found = find_keypoints(frames[index], given.frames[index].numpy(), points)
            distances.append(found)
            sizes.append(np.full(len(found), np.ptp(hand[:, :2], axis=0).max() * SIZE_PX))
    return pck(np.concatenate(distances), np.concatenate(sizes))


def test_finds_hands_where_they_are_and_nowhere_else() -> None:
    given = gesturing(3)
    assert share_found(given.frames.numpy(), given) == 1.0
    assert share_found(gesturing(3, shift=0.2).frames.numpy(), given) < 0.1
    assert share_found(gesturing(9).frames.numpy(), given) < 0.2
    assert share_found(noise(given.frames), given) < 0.05
