"""What the face mesh says of a face: opening of the mouth, turn of the head, eyes.

Fields of the controls that geometry does not measure stay unknown, which is NaN.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mirrorme_training.footage.landmarks import BLENDSHAPE_NAMES, Floats
from mirrorme_training.portrait_pose import CONTROL_INDEX, CONTROLS

Points = NDArray[np.float64]

INNER_LIPS = (13, 14)
"""Upper and lower, in the middle of the mouth."""
MOUTH_CORNERS = (61, 291)
_ACROSS = ((33, 263), (61, 291), (234, 454), (127, 356))
"""From the picture's left to its right in a face that looks at the camera."""
_FOREHEAD, _CHIN = 10, 152
_EYES = {
    "eyeBlinkRight": (159, 145, 33, 133),
    "eyeBlinkLeft": (386, 374, 263, 362),
}
"""Of the person's own sides: upper lid, lower lid, outer corner, inner corner."""
_IRISES = ((468, 33, 133), (473, 263, 362))

# Straight lines through what the mesh gives and the truth, of 96 painted portraits.
_BLINK_OFFSET, _BLINK_SLOPE = 1.1, -2.1
_JAW_SLOPE = 1.35
_GAZE_SLOPE_X = 4.0
_GAZE_SLOPE_Y, _GAZE_OFFSET_Y = 6.0, -0.8
_GAZE_BLINK = 0.5
"""With eyes more closed than this, gaze is unknown."""
_REST_SHARE = 30
"""Per cent of frames, those with the least open mouth, that tell the width at rest."""


def mouth_opening(face: Points) -> Points:
    """`[T]` distance between the lips over the mouth's width at rest, of one person's frames.

    Args:
        face: `[T, 478, 3]`, one unit in all directions; NaN where there is no face.
    """
    gap = _distance(face, *INNER_LIPS)
    width = _distance(face, *MOUTH_CORNERS)
    if not np.isfinite(gap).any():
        return gap
    resting = gap <= np.nanpercentile(gap, _REST_SHARE)
    return gap / np.nanmedian(width[resting])


def head_turn(face: Points) -> Points:
    """`[T, 3]` yaw, pitch, roll in degrees, in the sense of `portrait_pose.HEAD_CONTROLS`."""
    across, up = _axes(face)
    forward = np.cross(across, up)
    forward = np.where(forward[:, 2:] > 0, -forward, forward)
    yaw = np.arctan2(forward[:, 0], -forward[:, 2])
    pitch = np.arcsin(np.clip(-forward[:, 1], -1, 1))
    roll = np.arctan2(across[:, 1], across[:, 0])
    return np.degrees(np.stack([yaw, pitch, roll], axis=1))


def controls_of(face: Points, blendshapes: Floats) -> Points:
    """`[T, controls]` in the order of `portrait_pose.CONTROLS`, NaN where not known.

    Args:
        face: as `mouth_opening` takes it.
        blendshapes: `[T, 52]`, NaN where there is no Face Landmarker.
    """
    known = np.full((len(face), len(CONTROLS)), np.nan)
    opening = mouth_opening(face)
    known[:, CONTROL_INDEX["jawOpen"]] = (_JAW_SLOPE * opening).clip(0, 1)
    blinks = []
    for name, (upper, lower, outer, inner) in _EYES.items():
        ratio = _distance(face, upper, lower) / _distance(face, outer, inner)
        blinks.append((_BLINK_OFFSET + _BLINK_SLOPE * ratio).clip(0, 1))
        known[:, CONTROL_INDEX[name]] = blinks[-1]
    for column, name in enumerate(BLENDSHAPE_NAMES):
        if name in CONTROL_INDEX and np.isfinite(blendshapes[:, column]).any():
            known[:, CONTROL_INDEX[name]] = blendshapes[:, column]
    turn = head_turn(face)
    for column, name in enumerate(("head_yaw", "head_pitch", "head_roll")):
        known[:, CONTROL_INDEX[name]] = turn[:, column]
    gaze = _gaze(face)
    gaze[np.max(blinks, axis=0) > _GAZE_BLINK] = np.nan
    known[:, CONTROL_INDEX["gaze_x"]] = gaze[:, 0]
    known[:, CONTROL_INDEX["gaze_y"]] = gaze[:, 1]
    return known


def _gaze(face: Points) -> Points:
    across, up = _axes(face)
    both = []
    for iris, outer, inner in _IRISES:
        half = _distance(face, outer, inner) / 2
        offset = face[:, iris] - (face[:, outer] + face[:, inner]) / 2
        both.append([(offset * across).sum(1) / half, (offset * up).sum(1) / half])
    x, y = np.mean(both, axis=0)
    return np.stack(
        [
            (_GAZE_SLOPE_X * x).clip(-1, 1),
            (_GAZE_SLOPE_Y * y + _GAZE_OFFSET_Y).clip(-1, 1),
        ],
        axis=1,
    )


def _axes(face: Points) -> tuple[Points, Points]:
    across = np.sum([face[:, b] - face[:, a] for a, b in _ACROSS], axis=0)
    across = across / np.linalg.norm(across, axis=1, keepdims=True)
    up = face[:, _FOREHEAD] - face[:, _CHIN]
    up = up - (up * across).sum(1, keepdims=True) * across
    return across, up / np.linalg.norm(up, axis=1, keepdims=True)


def _distance(face: Points, a: int, b: int) -> Points:
    return np.linalg.norm(face[:, a] - face[:, b], axis=-1)
