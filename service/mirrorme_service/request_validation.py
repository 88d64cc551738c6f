"""Checks of what clients send, before anything is done with it.

Pure functions of messages and limits: what depends on a session's state (order, positions) is
checked where the state is. Every refusal names the field, what was got and what is expected.
"""

from __future__ import annotations

from typing import cast

import numpy as np
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper
from mirrorme.animate.v1 import animation_pb2 as pb
from mirrorme_engines.manifest import Manifest, RangeSpec
from numpy.typing import NDArray

from mirrorme_service.control_schedule import ControlValue
from mirrorme_service.errors import AnimationError, InvalidRequest
from mirrorme_service.hand_schedule import NUM_HANDS, NUM_KEYPOINTS

MAX_CLIENT_REFERENCE = 128
MIN_KEYPOINT = -1.0
MAX_KEYPOINT = 2.0


def missing(field: str, expected: str) -> AnimationError:
    """A required field is unset."""
    message = f"{field} is missing: want {expected}"
    return InvalidRequest("FIELD_MISSING", message, field=field, got="unset", expected=expected)


def out_of_range(field: str, got: object, expected: str) -> AnimationError:
    """A value is outside of what is allowed, or not a number."""
    message = f"{field} is {got}: want {expected}"
    return InvalidRequest("FIELD_OUT_OF_RANGE", message, field=field, got=got, expected=expected)


def unknown_value(field: str, got: object, expected: str) -> AnimationError:
    """A name or enum value that this server does not know."""
    message = f"{field} is {got}: want one of {expected}"
    return InvalidRequest("FIELD_UNKNOWN_VALUE", message, field=field, got=got, expected=expected)


def conflict(field: str, message: str) -> AnimationError:
    """A field that may not be set together with another."""
    message = f"{field} {message}"
    return InvalidRequest("FIELD_CONFLICT", message, field=field, expected="unset")


def check_number(field: str, value: float, range_: RangeSpec) -> float:
    """The value, if it is a number within the range."""
    if not range_.min <= value <= range_.max:  # false for NaN too
        raise out_of_range(field, f"{value:g}", f"{range_.min:g} to {range_.max:g}")
    return value


def check_enum(field: str, value: int, enum: EnumTypeWrapper, unspecified: int) -> int:
    """The value, with `unspecified` in place of zero."""
    if value not in enum.values():
        known = ", ".join(name for name, number in enum.items() if number)
        raise unknown_value(field, value, known)
    return value or unspecified


def check_crop_mode(field: str, crop_mode: int) -> pb.CropMode:
    """The crop mode in force."""
    number = check_enum(field, crop_mode, pb.CropMode, pb.CROP_MODE_UPPER_BODY)
    return cast(pb.CropMode, number)


def check_preset(field: str, preset: str, manifest: Manifest) -> str:
    """The preset's name, the default filled in."""
    if preset and preset != manifest.preset:
        raise unknown_value(field, repr(preset), repr(manifest.preset))
    return manifest.preset


def check_hand(field: str, hand: pb.Hand) -> NDArray[np.float32]:
    """`[21, 3]`: x, y, visibility. Points that are not visible are zeros."""
    if len(hand.keypoints) != NUM_KEYPOINTS:
        got = f"{len(hand.keypoints)} points"
        raise out_of_range(f"{field}.keypoints", got, f"exactly {NUM_KEYPOINTS}")
    points = np.array(
        [
            (point.x, point.y, point.visibility if point.HasField("visibility") else 1.0)
            for point in hand.keypoints
        ],
        np.float32,
    )
    for column, name, low, high in (
        (0, "x", MIN_KEYPOINT, MAX_KEYPOINT),
        (1, "y", MIN_KEYPOINT, MAX_KEYPOINT),
        (2, "visibility", 0.0, 1.0),
    ):
        wrong = ~((points[:, column] >= low) & (points[:, column] <= high))
        if wrong.any():
            index = int(wrong.argmax())
            where = f"{field}.keypoints[{index}].{name}"
            raise out_of_range(where, f"{points[index, column]:g}", f"{low:g} to {high:g}")
    points[points[:, 2] == 0] = 0
    return points


def check_hand_pose(field: str, pose: pb.HandPose) -> NDArray[np.float32]:
    """`[2, 21, 3]`; a hand that is unset is zeros."""
    if pose.WhichOneof("time") is None:
        raise missing(f"{field}.time", "frame_index or sample_index")
    keypoints = np.zeros((NUM_HANDS, NUM_KEYPOINTS, 3), np.float32)
    for index, side in enumerate(("left", "right")):
        if pose.HasField(side):
            keypoints[index] = check_hand(f"{field}.{side}", getattr(pose, side))
    return keypoints


def check_facial_controls(
    field: str, controls: pb.FacialControls, manifest: Manifest
) -> dict[int, ControlValue]:
    """The controls by index in the manifest's list; of a name given twice, the last one holds."""
    indices = {control.name: i for i, control in enumerate(manifest.controls)}
    result = {}
    for i, control in enumerate(controls.controls):
        where = f"{field}.controls[{i}]"
        if control.name not in indices:
            expected = "the names in GetCapabilities.presets.controls"
            raise unknown_value(f"{where}.name", repr(control.name), expected)
        index = indices[control.name]
        value = check_number(f"{where}.value", control.value, manifest.controls[index].range)
        weight = control.weight if control.HasField("weight") else 1.0
        check_number(f"{where}.weight", weight, RangeSpec(0, 1, 1))
        result[index] = ControlValue(value, weight)
    return result


def check_client_reference(field: str, reference: str) -> None:
    """A name for logs: short, and without line breaks or control characters."""
    if len(reference) > MAX_CLIENT_REFERENCE:
        expected = f"at most {MAX_CLIENT_REFERENCE}"
        raise out_of_range(field, f"{len(reference)} characters long", expected)
    if not reference.isprintable():
        raise out_of_range(field, "not printable", "printable characters only")
