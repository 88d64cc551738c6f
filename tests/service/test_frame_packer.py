"""Messages: bounded, exact in frames and samples, no audio left out or given twice."""

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mirrorme.animate.v1 import animation_pb2 as pb
from mirrorme_service.clock import MediaClock
from mirrorme_service.frame_encoder import EncodedFrame
from mirrorme_service.frame_packer import MAX_MESSAGE_BYTES, FramePacker

CLOCK = MediaClock(
    sample_rate_hz=16000,
    frame_rate=Fraction(24),
    chunk_frames=8,
    hop_samples=320,
    past_samples=16000,
    window_samples=24000,
    num_phases=3,
)
JPEG = pb.FRAME_ENCODING_JPEG


def frames_of(sizes: list[int]) -> list[EncodedFrame]:
    return [EncodedFrame(bytes([i % 256]) * size, i % 3 == 0) for i, size in enumerate(sizes)]


def pcm_of(first_frame: int, num_frames: int) -> np.ndarray:
    """Samples that tell their position."""
    start, stop = (n * 2000 // 3 for n in (first_frame, first_frame + num_frames))
    return ((np.arange(start, stop) % 60000 - 30000) / 32768).astype(np.float32)


def pack(packer: FramePacker, first_frame: int, frames: list[EncodedFrame]) -> list[pb.FrameBatch]:
    return packer.pack(
        first_frame, frames, pcm_of(first_frame, len(frames)), epoch=1, utterance=2, is_idle=True
    )


@settings(max_examples=40, deadline=None)
@given(
    first_frame=st.integers(0, 10**9),
    chunks=st.lists(
        st.lists(
            st.one_of(
                st.integers(1, 60_000), st.integers(250_000, 270_000), st.just(MAX_MESSAGE_BYTES)
            ),
            min_size=1,
            max_size=8,
        ),
        min_size=1,
        max_size=6,
    ),
)
def test_a_session_in_messages(first_frame: int, chunks: list[list[int]]) -> None:
    packer = FramePacker(CLOCK, JPEG, include_audio=True)
    batches, sent, index = [], [], first_frame
    for sizes in chunks:
        frames = frames_of(sizes)
        batches += pack(packer, index, frames)
        sent += frames
        index += len(sizes)
    expected_index = first_frame
    for batch in batches:
        assert batch.first_frame_index == expected_index
        assert (batch.epoch, batch.utterance, batch.is_idle) == (1, 2, True)
        message = pb.StreamAnimateResponse(frames=batch)
        assert message.ByteSize() < MAX_MESSAGE_BYTES or len(batch.frames) == 1
        for frame in batch.frames:
            assert frame.sample_index == expected_index * 2000 // 3
            expected_index += 1
    received = [frame for batch in batches for frame in batch.frames]
    assert [frame.data for frame in received] == [frame.data for frame in sent]
    assert [frame.is_key_frame for frame in received] == [frame.is_key_frame for frame in sent]
    audio = np.frombuffer(b"".join(batch.audio for batch in batches), "<i2")
    expected = np.rint(pcm_of(first_frame, len(sent)) * 32768)
    assert np.array_equal(audio, expected)
    for batch, following in pairwise(batches):
        covered = following.frames[0].sample_index - batch.frames[0].sample_index
        assert len(batch.audio) == 2 * covered


def test_small_frames_share_a_message() -> None:
    batches = pack(FramePacker(CLOCK, JPEG, include_audio=True), 0, frames_of([9000] * 8))
    assert [len(batch.frames) for batch in batches] == [8]


def test_a_frame_that_does_not_fit_goes_alone() -> None:
    packer = FramePacker(CLOCK, JPEG, include_audio=False)
    batches = pack(packer, 0, frames_of([1000, 300_000, 1000, 1000]))
    assert [len(batch.frames) for batch in batches] == [1, 1, 2]


@pytest.mark.parametrize("encoding", [pb.FRAME_ENCODING_RGB24, pb.FRAME_ENCODING_I420])
def test_raw_frames_go_one_a_message(encoding: pb.FrameEncoding) -> None:
    batches = pack(FramePacker(CLOCK, encoding, include_audio=True), 5, frames_of([100] * 8))
    assert [batch.first_frame_index for batch in batches] == list(range(5, 13))
    assert sorted({len(batch.audio) // 2 for batch in batches}) == [666, 667]


def test_no_audio_unless_asked_for() -> None:
    batches = pack(FramePacker(CLOCK, JPEG, include_audio=False), 0, frames_of([10] * 3))
    assert not any(batch.audio for batch in batches)


def test_no_frames_make_no_message() -> None:
    assert pack(FramePacker(CLOCK, JPEG, include_audio=True), 3, []) == []


def test_the_last_batch_ends_with_the_audio() -> None:
    packer = FramePacker(CLOCK, pb.FRAME_ENCODING_RGB24, include_audio=True)
    pcm = pcm_of(0, 3)[:1400]
    frames = frames_of([10] * 3)
    batches = packer.pack(0, frames, pcm, epoch=0, utterance=1, is_idle=False)
    assert [len(batch.audio) // 2 for batch in batches] == [666, 667, 67]


def test_audio_of_16_bits_comes_back_exactly() -> None:
    levels = np.arange(-32768, 32768)[::100]
    packer = FramePacker(CLOCK, JPEG, include_audio=True)
    pcm = (levels / 32768).astype(np.float32)
    (batch,) = packer.pack(0, frames_of([10]), pcm[:666], epoch=0, utterance=1, is_idle=False)
    assert np.array_equal(np.frombuffer(batch.audio, "<i2"), levels[:666])
    loud = np.ones(4, np.float32)
    (batch,) = packer.pack(0, frames_of([10]), loud, epoch=0, utterance=1, is_idle=False)
    assert np.frombuffer(batch.audio, "<i2").tolist() == [32767] * 4


def test_too_much_audio_is_our_mistake() -> None:
    packer = FramePacker(CLOCK, JPEG, include_audio=True)
    with pytest.raises(AssertionError):
        packer.pack(
            0, frames_of([1]), np.zeros(667, np.float32), epoch=0, utterance=0, is_idle=True
        )
