"""The media clock counts exactly."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mirrorme_engines.fake_manifest import fake_manifest
from mirrorme_service.clock import MediaClock

CLOCK = MediaClock.of(fake_manifest())
HOUR_FRAMES = 24 * 3600
HOUR_SAMPLES = 16_000 * 3600


def test_no_offset_after_an_hour() -> None:
    assert CLOCK.first_sample(HOUR_FRAMES) == HOUR_SAMPLES
    assert CLOCK.first_frame_from(HOUR_SAMPLES) == HOUR_FRAMES
    hour_chunks = HOUR_FRAMES // CLOCK.chunk_frames
    first, later = CLOCK.window(0), CLOCK.window(hour_chunks)
    assert later.start_sample - first.start_sample == HOUR_SAMPLES
    assert later.phase == first.phase


def test_no_offset_when_an_hour_is_counted_chunk_by_chunk() -> None:
    """What a session adds up, one chunk of audio after the other, over an hour."""
    sent = 0
    for chunk in range(HOUR_FRAMES // CLOCK.chunk_frames):
        first = chunk * CLOCK.chunk_frames
        sent += CLOCK.first_sample(first + CLOCK.chunk_frames) - CLOCK.first_sample(first)
    assert sent == HOUR_SAMPLES


@given(st.integers(0, 1 << 60))
def test_frame_starts_are_rounded_down(frame: int) -> None:
    exact = Fraction(frame * 2000, 3)
    assert 0 <= exact - CLOCK.first_sample(frame) < 1
    assert CLOCK.first_frame_from(CLOCK.first_sample(frame)) == frame


@pytest.mark.parametrize(
    ("samples", "frames"), [(0, 0), (1, 1), (666, 1), (667, 2), (5333, 8), (5334, 9), (16_000, 24)]
)
def test_length_of_the_video(samples: int, frames: int) -> None:
    assert CLOCK.first_frame_from(samples) == frames


@pytest.mark.parametrize("num_latents", [1, 3])
@given(chunk=st.integers(0, 1 << 40))
def test_windows_lie_on_the_feature_grid_and_hold_the_chunk(num_latents: int, chunk: int) -> None:
    clock = MediaClock.of(fake_manifest(num_latents=num_latents))
    window = clock.window(chunk)
    first_frame = chunk * clock.chunk_frames
    assert (window.start_sample + clock.past_samples) % clock.hop_samples == 0
    assert window.stop_sample - window.start_sample == clock.window_samples
    assert window.start_sample + clock.past_samples <= clock.first_sample(first_frame)
    assert clock.first_sample(first_frame + clock.chunk_frames) <= window.stop_sample
    assert 0 <= window.phase < clock.num_phases
    assert clock.samples_needed(chunk) == window.stop_sample
