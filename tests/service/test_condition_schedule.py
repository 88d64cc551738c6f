"""Hand poses and facial controls: which frame gets what, and what is refused."""

import numpy as np
import pytest
from mirrorme.animate.v1 import animation_pb2 as pb
from mirrorme_engines.fake_manifest import fake_manifest
from mirrorme_service.condition_schedule import MAX_POSES, ConditionSchedule
from mirrorme_service.errors import AnimationError, OutOfRange
from mirrorme_service.model import Conditions

MANIFEST = fake_manifest()
JAW, YAW = 0, 2


def schedule(max_ahead_s: float = 60) -> ConditionSchedule:
    return ConditionSchedule(MANIFEST, max_ahead_s)


def hand(x: float, visibility: float | None = None) -> pb.Hand:
    return pb.Hand(keypoints=[pb.Keypoint(x=x, y=0.5, visibility=visibility) for _ in range(21)])


def left_x(conditions: Conditions) -> list[float]:
    """x of the left hand by frame; NaN where it is not visible."""
    points = conditions.hand_keypoints[:, 0, 0]
    return np.where(points[:, 2] > 0, points[:, 0], np.nan).round(4).tolist()


def poses(**stamps: float) -> pb.HandPoses:
    """`f3=0.5` is a pose at frame 3, `s700=0.5` one at sample 700."""
    return pb.HandPoses(
        poses=[
            pb.HandPose(
                **{"frame_index" if name[0] == "f" else "sample_index": int(name[1:])}, left=hand(x)
            )
            for name, x in stamps.items()
        ]
    )


def test_nothing_given_is_all_zeros() -> None:
    conditions = schedule().settle_chunk()
    assert conditions.hand_keypoints.shape == (8, 2, 21, 3)
    assert conditions.controls.shape == conditions.control_weights.shape == (8, 3)
    assert not conditions.hand_keypoints.any()
    assert not conditions.control_weights.any()


def test_pose_of_one_frame() -> None:
    timeline = schedule()
    timeline.set_hand_poses(poses(f9=0.25, f2=0.5))
    timeline.set_hand_poses(poses(f2=0.75))
    nan = np.nan
    first, second = left_x(timeline.settle_chunk()), left_x(timeline.settle_chunk())
    np.testing.assert_equal(first, [nan, nan, 0.75, nan, nan, nan, nan, nan])
    np.testing.assert_equal(second, [nan, 0.25, nan, nan, nan, nan, nan, nan])


def test_time_stamped_poses_are_interpolated_up_to_250_ms() -> None:
    timeline = schedule()
    # 2000 samples are three frames; 4000 samples are 250 ms.
    timeline.set_hand_poses(poses(s0=0.0, s4000=0.6, s8001=1.0))
    first, second = left_x(timeline.settle_chunk()), left_x(timeline.settle_chunk())
    expected = [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, np.nan]
    np.testing.assert_allclose(first, expected, atol=2e-4)
    expected = [np.nan] * 4 + [1.0] + [np.nan] * 3  # sample 8001 lies in frame 12
    np.testing.assert_allclose(second, expected, atol=2e-4)


def test_interpolation_reaches_over_chunks() -> None:
    timeline = schedule()
    timeline.set_hand_poses(poses(s5000=0.0, s6000=1.0))  # frame 8 starts at sample 5333
    timeline.settle_chunk()
    assert left_x(timeline.settle_chunk())[0] == pytest.approx(0.333, abs=1e-3)


def test_a_frames_own_pose_comes_first() -> None:
    timeline = schedule()
    timeline.set_hand_poses(poses(s0=0.0, s2000=1.0, f1=0.9))
    assert left_x(timeline.settle_chunk())[1] == pytest.approx(0.9)


def test_a_hand_that_appears_stays_where_it_is_seen() -> None:
    timeline = schedule()
    appears = [pb.HandPose(sample_index=0), pb.HandPose(sample_index=2000, left=hand(0.8))]
    timeline.set_hand_poses(pb.HandPoses(poses=appears))
    points = timeline.settle_chunk().hand_keypoints[:4, 0, 0]
    np.testing.assert_allclose(points[:, 0], [0, 0.8, 0.8, 0.8], atol=1e-5)
    np.testing.assert_allclose(points[:, 2], [0, 0.333, 0.667, 1], atol=1e-3)


def test_sample_index_of_a_frame_as_the_server_says_it_is_that_frame() -> None:
    timeline = schedule()
    timeline.settle_chunk()
    timeline.set_hand_poses(poses(s5333=0.5))  # frame 8 starts at 5333 1/3
    assert left_x(timeline.settle_chunk())[0] == 0.5


@pytest.mark.parametrize("wrong", ["f7", "s5332"])
def test_past_poses_are_refused(wrong: str) -> None:
    timeline = schedule()
    timeline.settle_chunk()
    with pytest.raises(OutOfRange) as caught:
        timeline.set_hand_poses(poses(**{wrong: 0.5}))
    assert caught.value.reason == "TIME_IN_PAST"


@pytest.mark.parametrize("wrong", ["f25", "s16001", f"f{2**64 - 1}", f"s{2**64 - 1}"])
def test_poses_far_ahead_are_refused(wrong: str) -> None:
    timeline = schedule(max_ahead_s=1)
    timeline.set_hand_poses(poses(f24=0.5, s16000=0.5))
    with pytest.raises(OutOfRange) as caught:
        timeline.set_hand_poses(poses(**{wrong: 0.5}))
    assert caught.value.reason == "TIME_TOO_FAR_AHEAD"


def test_poses_held_are_bounded() -> None:
    timeline = schedule()
    with pytest.raises(OutOfRange) as caught:
        timeline.set_hand_poses(poses(**{f"s{i}": 0.5 for i in range(MAX_POSES + 1)}))
    assert caught.value.reason == "TOO_MANY_POSES"
    assert caught.value.field == f"hand_poses.poses[{MAX_POSES}]"


@pytest.mark.parametrize(
    ("keypoint", "field"),
    [
        (pb.Keypoint(x=2.1, y=0), "x"),
        (pb.Keypoint(x=0, y=-1.1), "y"),
        (pb.Keypoint(x=float("nan"), y=0), "x"),
        (pb.Keypoint(x=0, y=float("inf")), "y"),
        (pb.Keypoint(x=0, y=0, visibility=1.5), "visibility"),
        (pb.Keypoint(x=0, y=0, visibility=float("nan")), "visibility"),
    ],
)
def test_malformed_keypoints_are_refused(keypoint: pb.Keypoint, field: str) -> None:
    right = hand(0.5)
    right.keypoints[4].CopyFrom(keypoint)
    request = pb.HandPoses(poses=[pb.HandPose(frame_index=0, right=right)])
    with pytest.raises(AnimationError) as caught:
        schedule().set_hand_poses(request)
    assert caught.value.field == f"hand_poses.poses[0].right.keypoints[4].{field}"


def test_a_keypoint_that_is_not_given_leaves_no_trace() -> None:
    timeline = schedule()
    pose = pb.HandPose(frame_index=0, left=hand(0.5, visibility=0))
    timeline.set_hand_poses(pb.HandPoses(poses=[pose]))
    assert not timeline.settle_chunk().hand_keypoints.any()


def controls(first_frame: int | None = None, **values: tuple[float, float | None]):
    return pb.FacialControls(
        first_frame_index=first_frame,
        controls=[
            pb.FacialControl(name=name, value=value, weight=weight)
            for name, (value, weight) in values.items()
        ],
    )


def test_controls_hold_until_changed() -> None:
    timeline = schedule()
    timeline.set_facial_controls(controls(3, jawOpen=(0.5, None)))
    timeline.set_facial_controls(controls(10, jawOpen=(1.0, 0.25), headYaw=(-30, 1.0)))
    first, second, third = (timeline.settle_chunk() for _ in range(3))
    assert first.controls[:, JAW].tolist() == [0, 0, 0, 0.5, 0.5, 0.5, 0.5, 0.5]
    assert first.control_weights[:, JAW].tolist() == [0, 0, 0, 1, 1, 1, 1, 1]
    assert second.controls[:, JAW].tolist() == [0.5, 0.5, 1, 1, 1, 1, 1, 1]
    assert second.control_weights[:, JAW].tolist() == [1, 1] + [0.25] * 6
    assert third.controls[:, YAW].tolist() == [-30] * 8


def test_controls_without_a_frame_hold_from_the_next_chunk_on() -> None:
    timeline = schedule()
    timeline.settle_chunk()
    timeline.set_facial_controls(controls(None, jawOpen=(0.5, None)))
    assert timeline.settle_chunk().controls[0, JAW] == 0.5


def test_weight_zero_clears() -> None:
    timeline = schedule()
    timeline.set_facial_controls(controls(0, jawOpen=(0.5, None)))
    timeline.set_facial_controls(controls(4, jawOpen=(0.5, 0.0)))
    chunk = timeline.settle_chunk()
    assert chunk.controls[:, JAW].tolist() == [0.5] * 4 + [0] * 4
    assert chunk.control_weights[:, JAW].tolist() == [1] * 4 + [0] * 4


@pytest.mark.parametrize(
    ("request_", "field", "reason"),
    [
        (controls(0, mouthFunny=(0, None)), "controls[0].name", "FIELD_UNKNOWN_VALUE"),
        (controls(0, jawOpen=(1.5, None)), "controls[0].value", "FIELD_OUT_OF_RANGE"),
        (controls(0, jawOpen=(float("nan"), None)), "controls[0].value", "FIELD_OUT_OF_RANGE"),
        (controls(0, jawOpen=(0, -0.1)), "controls[0].weight", "FIELD_OUT_OF_RANGE"),
        (controls(0, jawOpen=(0, float("nan"))), "controls[0].weight", "FIELD_OUT_OF_RANGE"),
        (controls(2**63), "first_frame_index", "TIME_TOO_FAR_AHEAD"),
    ],
)
def test_malformed_controls_are_refused(
    request_: pb.FacialControls, field: str, reason: str
) -> None:
    with pytest.raises(AnimationError) as caught:
        schedule().set_facial_controls(request_)
    assert (caught.value.field, caught.value.reason) == (f"facial_controls.{field}", reason)
