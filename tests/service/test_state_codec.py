"""Sessions' states as bytes."""

from __future__ import annotations

import msgpack
import numpy as np
import pytest
from mirrorme_service.state_codec import StateUnreadable, decode_state, encode_state


def test_values_and_arrays_come_back_as_they_were() -> None:
    random = np.random.default_rng(0)
    samples = (random.integers(-32768, 32768, 1000) / np.float32(32768)).astype(np.float32)
    latents = random.normal(size=(3, 5, 2, 2)).astype(np.float32)
    numbers = random.normal(size=7).astype(np.float32)
    latents[1, 2] = latents[2, 4] = 0.0
    empty = np.zeros((0, 5, 2, 2), np.float32)
    state = (1, "text", b"bytes", None, {"k": [1.5]}, samples, latents, numbers, empty)
    back = decode_state(encode_state(state))
    assert back[:5] == [1, "text", b"bytes", None, {"k": [1.5]}]
    for got, kept in zip(back[5:], (samples, latents, numbers, empty), strict=True):
        assert got.dtype == np.float32 and np.array_equal(got, kept)
    assert len(encode_state(samples)) < 2 * len(samples) + 20


@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0), (0, 5, 2, 2), (2, 0, 4), (2, 3, 0), ()])
def test_arrays_without_elements_or_dimensions_come_back(shape: tuple[int, ...]) -> None:
    back = decode_state(encode_state(np.zeros(shape, np.float32)))
    assert back.shape == shape and not back.any()


def test_channels_of_zeros_take_no_room() -> None:
    latents = np.zeros((1214, 8, 8), np.float32)
    latents[:128] = np.random.default_rng(0).normal(size=(128, 8, 8))
    assert len(encode_state(latents)) < 1.1 * latents[:128].nbytes


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        msgpack.packb(msgpack.ExtType(9, b"")),
        msgpack.packb(msgpack.ExtType(1, b"odd")),
        msgpack.packb(msgpack.ExtType(1, msgpack.packb(((2, 2), b"\x80", bytes(15))))),
        msgpack.packb(msgpack.ExtType(1, msgpack.packb(((2, 2), b"\x80", bytes(32))))),
        msgpack.packb(msgpack.ExtType(1, msgpack.packb(((9, 1, 2), b"\x80", bytes(8))))),
        msgpack.packb(msgpack.ExtType(1, msgpack.packb((7, b"\x80", bytes(4))))),
    ],
    ids=["empty", "odd", "kind", "array", "short", "long", "planes", "shape"],
)
def test_anything_else_is_unreadable(data: bytes) -> None:
    with pytest.raises(StateUnreadable):
        decode_state(data)
