"""What a client asks of frames beside the audio: hand poses and facial controls, settled in order.

Frames are settled chunk by chunk; what comes later for a settled frame is refused, and so is what
lies so far ahead that it would only fill memory.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from mirrorme.animate.v1 import animation_pb2 as pb
from mirrorme_engines.manifest import Manifest
from numpy.typing import NDArray

from mirrorme_service import request_validation as check
from mirrorme_service.clock import MediaClock
from mirrorme_service.control_schedule import ControlSchedule
from mirrorme_service.errors import OutOfRange
from mirrorme_service.hand_schedule import NUM_HANDS, NUM_KEYPOINTS, HandSchedule
from mirrorme_service.model import Conditions

MAX_POSES = 4096


class ConditionSchedule:
    """The conditions of one session's frames."""

    def __init__(self, manifest: Manifest, max_ahead_s: float) -> None:
        self._manifest = manifest
        self._clock = MediaClock.of(manifest)
        self._hands = HandSchedule(self._clock)
        self._controls = ControlSchedule(len(manifest.controls))
        self._max_ahead_frames = round(max_ahead_s * self._clock.frame_rate)
        self._open_frame = 0
        self._settled: dict[int, Conditions] = {}
        """By chunk, as long as the chunk may have to be made again."""

    def of_chunk(self, chunk: int) -> Conditions:
        """The conditions of a chunk; settles it, and all before it, at the first call."""
        while chunk not in self._settled:
            settled = self._open_frame // self._clock.chunk_frames
            assert settled <= chunk, "conditions forgotten"
            self._settled[settled] = self.settle_chunk()
        return self._settled[chunk]

    def forget_before(self, chunk: int) -> None:
        """Frees the conditions of the chunks before one."""
        for past in [number for number in self._settled if number < chunk]:
            del self._settled[past]

    def settle_chunk(self) -> Conditions:
        """The conditions of the next chunk, which nothing can change any more."""
        first_frame, num_frames = self._open_frame, self._clock.chunk_frames
        keypoints = self._hands.keypoints(first_frame, num_frames)
        values, weights = self._controls.take(first_frame, num_frames)
        self._open_frame += num_frames
        self._hands.forget_before(self._open_frame)
        return Conditions(keypoints, values, weights)

    def set_hand_poses(self, poses: pb.HandPoses) -> None:
        """Takes poses of frames that are not settled.

        Raises:
            InvalidRequest, OutOfRange
        """
        for i, pose in enumerate(poses.poses):
            field = f"hand_poses.poses[{i}]"
            keypoints = check.check_hand_pose(field, pose)
            if pose.WhichOneof("time") == "frame_index":
                self._check_frame(f"{field}.frame_index", pose.frame_index)
                self._hands.set_frame(pose.frame_index, keypoints)
            else:
                self._check_sample(f"{field}.sample_index", pose.sample_index)
                self._hands.set_sample(pose.sample_index, keypoints)
            if len(self._hands) > MAX_POSES:
                raise OutOfRange(
                    "TOO_MANY_POSES",
                    f"more than {MAX_POSES} hand poses wait for their audio: send them later",
                    field=field,
                    expected=f"at most {MAX_POSES} waiting",
                )

    def set_facial_controls(self, controls: pb.FacialControls) -> None:
        """Takes controls that hold from a frame on that is not settled.

        Raises:
            InvalidRequest, OutOfRange
        """
        changes = check.check_facial_controls("facial_controls", controls, self._manifest)
        frame = self._open_frame
        if controls.HasField("first_frame_index"):
            frame = controls.first_frame_index
            self._check_frame("facial_controls.first_frame_index", frame)
        self._controls.set(frame, changes)

    def to_record(self) -> Any:
        """All of it, for `restore`."""
        settled = {
            chunk: [_unless_zeros(array) for array in _arrays(conditions)]
            for chunk, conditions in self._settled.items()
        }
        return self._open_frame, settled, self._hands.to_record(), self._controls.to_record()

    def restore(self, record: Any) -> None:
        """Holds what another one held."""
        self._open_frame, settled, hands, controls = record
        self._hands.restore(hands)
        self._controls.restore(controls)
        num_frames, num_controls = self._clock.chunk_frames, len(self._manifest.controls)
        hands_shape = (num_frames, NUM_HANDS, NUM_KEYPOINTS, 3)
        shapes = (hands_shape, (num_frames, num_controls), (num_frames, num_controls))
        self._settled = {
            chunk: Conditions(
                *(
                    np.zeros(shape, np.float32) if array is None else array.reshape(shape)
                    for array, shape in zip(arrays, shapes, strict=True)
                )
            )
            for chunk, arrays in settled.items()
        }

    def _check_frame(self, field: str, frame: int) -> None:
        latest = self._open_frame + self._max_ahead_frames
        _check_time(field, frame, self._open_frame, latest)

    def _check_sample(self, field: str, sample: int) -> None:
        latest = self._open_frame + self._max_ahead_frames
        first_sample = self._clock.first_sample
        _check_time(field, sample, first_sample(self._open_frame), first_sample(latest))


def _check_time(field: str, got: int, earliest: int, latest: int) -> None:
    """Refuses positions that are settled, or so far ahead that they only fill memory."""
    if earliest <= got <= latest:
        return
    expected = f"{earliest} to {latest}"
    if got < earliest:
        reason, why = "TIME_IN_PAST", "the chunk that holds it has its audio already"
    else:
        reason, why = "TIME_TOO_FAR_AHEAD", "send it when its audio is nearer"
    message = f"{field} is {got}: want {expected} now; {why}"
    raise OutOfRange(reason, message, field=field, got=got, expected=expected)


def _arrays(conditions: Conditions) -> tuple[NDArray[np.float32], ...]:
    return conditions.hand_keypoints, conditions.controls, conditions.control_weights


def _unless_zeros(array: NDArray[np.float32]) -> NDArray[np.float32] | None:
    return array if array.any() else None
