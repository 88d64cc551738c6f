"""The hand poses of a session, and what they say about each frame.

Knows positions, not time: the session says which frames are settled. Positions are samples of the
session's audio throughout; nothing here validates what a client sent.
"""

from __future__ import annotations

import bisect
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mirrorme_service.clock import MediaClock

NUM_HANDS = 2
NUM_KEYPOINTS = 21
MAX_INTERPOLATION_MS = 250

HandKeypoints = NDArray[np.float32]
"""`[2, 21, 3]`: left then right hand; x, y, visibility. A hand not given is all zeros."""


@dataclass
class HandSchedule:
    """Poses for single frames, and a time-stamped sequence of poses.

    A frame takes its own pose if it has one; else the linear interpolation of the time-stamped
    poses around it, if they are at most 250 ms apart; else the last time-stamped pose that falls
    into the frame; else none.
    """

    clock: MediaClock
    _by_frame: dict[int, HandKeypoints] = field(default_factory=dict)
    _stamps: list[int] = field(default_factory=list)
    _by_stamp: dict[int, HandKeypoints] = field(default_factory=dict)

    def __len__(self) -> int:
        """Poses held."""
        return len(self._by_frame) + len(self._stamps)

    def set_frame(self, frame: int, pose: HandKeypoints) -> None:
        """Sets the pose of one frame; a later one replaces it."""
        self._by_frame[frame] = pose

    def set_sample(self, sample: int, pose: HandKeypoints) -> None:
        """Sets the pose at one sample; a later one replaces it."""
        if sample not in self._by_stamp:
            bisect.insort(self._stamps, sample)
        self._by_stamp[sample] = pose

    def keypoints(self, first_frame: int, num_frames: int) -> NDArray[np.float32]:
        """`[num_frames, 2, 21, 3]` of consecutive frames."""
        result = np.zeros((num_frames, NUM_HANDS, NUM_KEYPOINTS, 3), np.float32)
        if self._by_frame or self._stamps:
            for i in range(num_frames):
                pose = self._pose(first_frame + i)
                if pose is not None:
                    result[i] = pose
        return result

    def forget_before(self, frame: int) -> None:
        """Drops what no frame from here on can need."""
        for past in [f for f in self._by_frame if f < frame]:
            del self._by_frame[past]
        oldest = self.clock.first_sample(frame) - self._reach_samples
        keep_from = bisect.bisect_left(self._stamps, oldest)
        for stamp in self._stamps[:keep_from]:
            del self._by_stamp[stamp]
        del self._stamps[:keep_from]

    def to_record(self) -> Any:
        """All of it, for `restore`."""
        return self._by_frame, self._by_stamp

    def restore(self, record: Any) -> None:
        """Holds what another one held."""
        self._by_frame, self._by_stamp = record
        self._stamps = sorted(self._by_stamp)

    @property
    def _reach_samples(self) -> int:
        return MAX_INTERPOLATION_MS * self.clock.sample_rate_hz // 1000

    def _pose(self, frame: int) -> HandKeypoints | None:
        if frame in self._by_frame:
            return self._by_frame[frame]
        start = self.clock.first_sample(frame)
        if start in self._by_stamp:
            return self._by_stamp[start]
        after = bisect.bisect_left(self._stamps, start)
        if 0 < after < len(self._stamps):
            left, right = self._stamps[after - 1], self._stamps[after]
            if right - left <= self._reach_samples:
                share = (start - left) / (right - left)
                return _interpolated(self._by_stamp[left], self._by_stamp[right], share)
        end = bisect.bisect_left(self._stamps, self.clock.first_sample(frame + 1))
        return self._by_stamp[self._stamps[end - 1]] if after < end else None


def _interpolated(left: HandKeypoints, right: HandKeypoints, share: float) -> HandKeypoints:
    """`share` of the way from left to right. A point seen on one side only stays where it is."""
    left_seen, right_seen = left[..., 2:] > 0, right[..., 2:] > 0
    start = np.where(left_seen, left[..., :2], right[..., :2])
    end = np.where(right_seen, right[..., :2], left[..., :2])
    points = start + np.float32(share) * (end - start)
    visibility = left[..., 2:] + np.float32(share) * (right[..., 2:] - left[..., 2:])
    return np.concatenate([points, visibility], axis=-1, dtype=np.float32)
