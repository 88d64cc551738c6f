"""Audio of any bytes in any declared format: samples, or a refusal with a reason."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from mirrorme.animate.v1 import animation_pb2 as pb
from mirrorme_service.audio_input import AudioInput, resolve_audio_format
from mirrorme_service.errors import InvalidRequest

from tests.fuzz.effort import effort

FORMATS = st.builds(
    pb.AudioFormat,
    encoding=st.sampled_from([*pb.AudioEncoding.values(), 99]),
    sample_rate_hz=st.one_of(
        st.sampled_from([0, 7_999, 8_000, 11_025, 16_000, 44_100, 48_000, 48_001, 2**32 - 1]),
        st.integers(8_000, 48_000),
    ),
    num_channels=st.integers(0, 3),
)
SMALL_FLOATS = st.lists(st.floats(-2, 2, width=32), max_size=200).map(
    lambda values: np.array(values, "<f4").tobytes()
)
PIECES = st.lists(st.one_of(st.binary(max_size=900), SMALL_FLOATS, st.none()), max_size=8)
"""None: the end of an utterance."""


@effort(1000)
@given(FORMATS, PIECES)
def test_audio(audio_format: pb.AudioFormat, pieces: list[bytes | None]) -> None:
    try:
        audio = AudioInput(resolve_audio_format(audio_format, field="config.audio_format"))
        samples = [audio.flush() if piece is None else audio.push(piece) for piece in pieces]
        samples.append(audio.flush())
    except InvalidRequest as refusal:
        assert refusal.reason.startswith("AUDIO_")
        return
    whole = np.concatenate(samples)
    assert np.isfinite(whole).all()
    assert np.abs(whole).max(initial=0) <= 1
    assert abs(len(whole) - audio.num_received * 16_000 / audio_format.sample_rate_hz) <= 1
