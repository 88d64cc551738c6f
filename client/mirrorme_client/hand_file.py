"""Hand keypoints from a file, as a detector such as MediaPipe or DWPose leaves them.

`.npz`: array `hands` `[F, 2, 21, 2 or 3]`, one entry a frame at the video's rate, person's left
hand first, x and y as fractions of the frame; optional `hands_score` `[F, 2, 21]` in place of the
third number. `.json`: a list of `{"frame_index": n}` or `{"sample_index": n}` with `left` and
`right`, each 21 points `[x, y]` or `[x, y, visibility]`, or null where the hand is not visible.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from mirrorme.animate.v1 import animation_pb2 as pb
from numpy.typing import NDArray

from mirrorme_client.errors import UnreadableInput

NUM_KEYPOINTS = 21


def read_hands(path: Path) -> list[pb.HandPose]:
    """Reads the poses in file order.

    Raises:
        UnreadableInput: the file is missing or not of one of the forms above.
    """
    try:
        match path.suffix.lower():
            case ".npz":
                with np.load(path, allow_pickle=False) as arrays:
                    return _from_arrays(dict(arrays))
            case ".json":
                return [_from_json(entry) for entry in json.loads(path.read_bytes())]
    except OSError as error:
        raise UnreadableInput(f"cannot read the hands file {path}: {error.strerror}") from error
    except (ValueError, TypeError, KeyError, AttributeError, zipfile.BadZipFile) as error:
        raise UnreadableInput(f"the hands file {path} is not as expected: {error}") from error
    raise UnreadableInput(f"the hands file {path} is neither .npz nor .json")


def _from_arrays(arrays: dict[str, NDArray[np.generic]]) -> list[pb.HandPose]:
    if "hands" not in arrays:
        raise ValueError(f"it has no array 'hands', but {', '.join(sorted(arrays)) or 'none'}")
    hands = arrays["hands"].astype(np.float64)
    if hands.ndim != 4 or hands.shape[1:3] != (2, NUM_KEYPOINTS) or hands.shape[3] not in (2, 3):
        raise ValueError(f"'hands' has shape {hands.shape}: want [F, 2, {NUM_KEYPOINTS}, 2 or 3]")
    if hands.shape[3] == 2:
        score = arrays.get("hands_score", np.ones(hands.shape[:3])).astype(np.float64)
        if score.shape != hands.shape[:3]:
            raise ValueError(f"'hands_score' has shape {score.shape}: want {hands.shape[:3]}")
        hands = np.concatenate([hands, score[..., None]], axis=-1)
    # Detectors' scores go a little beyond 1.
    hands[..., 2] = hands[..., 2].clip(0, 1)
    return [
        pb.HandPose(frame_index=frame, left=_hand(left), right=_hand(right))
        for frame, (left, right) in enumerate(hands.tolist())
    ]


def _from_json(entry: dict[str, Any]) -> pb.HandPose:
    if unknown := entry.keys() - {"frame_index", "sample_index", "left", "right"}:
        raise ValueError(f"unknown keys: {', '.join(sorted(unknown))}")
    if ("frame_index" in entry) == ("sample_index" in entry):
        raise ValueError("an entry has one of frame_index and sample_index")
    times = {key: entry[key] for key in ("frame_index", "sample_index") if key in entry}
    return pb.HandPose(**times, left=_hand(entry.get("left")), right=_hand(entry.get("right")))


def _hand(points: list[list[float]] | None) -> pb.Hand | None:
    if points is None:
        return None
    if len(points) != NUM_KEYPOINTS:
        raise ValueError(f"a hand has {len(points)} points: want {NUM_KEYPOINTS}")
    if any(len(point) not in (2, 3) for point in points):
        raise ValueError("a point is [x, y] or [x, y, visibility]")
    return pb.Hand(
        keypoints=[
            pb.Keypoint(x=point[0], y=point[1], visibility=point[2] if len(point) > 2 else None)
            for point in points
        ]
    )
