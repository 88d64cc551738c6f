"""Where chunks, windows and features lie in time."""

from fractions import Fraction

import pytest
from mirrorme_model.audio_window import AudioWindow
from mirrorme_model.config import ModelConfig
from mirrorme_model.presets import PRESETS, preset

CONFIGS = [preset(name, chunk_latents=n) for name in PRESETS for n in (1, 2, 3)]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.preset}-{c.chunk.num_latents}")
def test_slots_are_where_the_frames_are(config: ModelConfig) -> None:
    window = AudioWindow.of(config)
    per_frame = config.audio.slots_per_frame
    assert window.past_samples % window.hop_samples == 0
    for chunk in range(2 * window.num_phases):
        start = chunk * window.chunk_samples
        window_start = start // 320 * 320 - window.past_samples
        positions = window.slot_positions(chunk % window.num_phases)
        for frame in range(config.chunk_frames):
            of_frame = positions[window.past_slots + frame * per_frame :][:per_frame]
            centers = [window_start + p * 320 + 200 for p in of_frame]
            first = start + frame * Fraction(2000, 3)
            assert all(first < center < first + Fraction(2000, 3) for center in centers)
            assert sum(centers) / per_frame == first + Fraction(1000, 3)
        assert positions[0] >= 0
        assert positions[-1] <= window.num_features - 1


@pytest.mark.parametrize(("num_latents", "num_phases"), [(1, 3), (2, 3), (3, 1), (6, 1)])
def test_phases(num_latents: int, num_phases: int) -> None:
    window = AudioWindow.of(preset("tiny", chunk_latents=num_latents))
    assert window.num_phases == num_phases
    assert window.phase_samples(0) == 0


def test_phases_of_single_latent_frames() -> None:
    window = AudioWindow.of(preset("tiny"))
    hop = window.hop_samples
    assert [window.phase_samples(p) / hop for p in range(3)] == [0, Fraction(2, 3), Fraction(1, 3)]


@pytest.mark.parametrize("name", PRESETS)
def test_the_window_just_holds_its_features(name: str) -> None:
    config = preset(name)
    window = AudioWindow.of(config)
    assert config.audio.backbone.reach_samples == 400
    assert window.window_samples == (window.num_features - 1) * 320 + 400


def test_the_demo_waits_for_little_audio() -> None:
    window = AudioWindow.of(preset("demo"))
    ahead = window.window_samples - window.past_samples - window.chunk_samples
    assert ahead / 16000 <= Fraction(16, 100)
