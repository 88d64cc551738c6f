"""Plain values with arrays in them to bytes and back, small and without code in them.

Samples that are 16-bit integers over 32768, as most clients send them, take two bytes each. Planes
of zeros are left out: of a portrait, or where no hands are given, most channels are such.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import msgpack
import numpy as np
from numpy.typing import NDArray

_ARRAY, _SAMPLES = 1, 2
_S16_SCALE = np.float32(1 / 32768)


class StateUnreadable(ValueError):
    """The bytes are not a state of this format."""


def encode_state(state: Any) -> bytes:
    """Of numbers, bytes, text, None, tuples, lists, dicts, and float32 arrays."""
    return cast(bytes, msgpack.packb(state, default=_encode_array))


def decode_state(data: bytes) -> Any:
    """The same again; tuples come back as lists.

    Raises:
        StateUnreadable: the bytes are something else.
    """
    try:
        return msgpack.unpackb(data, ext_hook=_decode_array, strict_map_key=False)
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise StateUnreadable(f"not a session's state: {error}") from error


def _encode_array(value: Any) -> msgpack.ExtType:
    if not isinstance(value, np.ndarray) or value.dtype != np.float32:
        raise TypeError(f"cannot keep a {type(value).__name__}")
    if value.ndim == 1:
        integers = value * np.float32(32768)
        as_s16 = np.clip(integers, -32768, 32767).astype("<i2")
        if np.array_equal(as_s16, integers):
            return msgpack.ExtType(_SAMPLES, as_s16.tobytes())
    planes = value.reshape(_planes(value.shape))
    kept = planes.any(axis=1)
    values = planes[kept].astype("<f4").tobytes()
    packed = cast(bytes, msgpack.packb((value.shape, np.packbits(kept).tobytes(), values)))
    return msgpack.ExtType(_ARRAY, packed)


def _decode_array(code: int, data: bytes) -> NDArray[np.float32]:
    if code == _SAMPLES:
        return np.frombuffer(data, "<i2").astype(np.float32) * _S16_SCALE
    if code != _ARRAY:
        raise ValueError(f"unknown kind of array {code}")
    shape, bits, values = msgpack.unpackb(data)
    count, size = _planes(shape)
    kept = np.unpackbits(np.frombuffer(bits, np.uint8))[:count].astype(bool)
    planes = np.zeros((len(kept), size), np.float32)
    planes[kept] = np.frombuffer(values, "<f4").reshape(int(kept.sum()), size)
    return planes.reshape(shape)


def _planes(shape: Sequence[int]) -> tuple[int, int]:
    """How many and how large; what has no rows and columns is one."""
    if len(shape) < 3:
        return 1, math.prod(shape)
    return math.prod(shape[:-2]), math.prod(shape[-2:])
