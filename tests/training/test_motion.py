"""Movement: reproducible, within the controls' ranges, lively in silence too."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mirrorme_model.presets import preset
from mirrorme_training.clip_generator import FIRST_TRAINING_SEED, Clip, ClipConfig, ClipGenerator
from mirrorme_training.motion_noise import blinks, drift, holds
from mirrorme_training.portrait_pose import CONTROL_INDEX, CONTROLS, HEAD_CONTROLS
from mirrorme_training.speech import Phone, Speech
from mirrorme_training.speech_text import LANGUAGES, sentence
from mirrorme_training.speech_voices import Voice

NUM_FRAMES = 30 * 24


@pytest.fixture(scope="module")
def idle() -> Clip:
    """A clip that needs no synthesiser."""
    return ClipGenerator(ClipConfig(num_frames=NUM_FRAMES, idle=1.0, voices=())).make(5)


def test_same_seed_same_clip(idle: Clip) -> None:
    again = ClipGenerator(ClipConfig(num_frames=NUM_FRAMES, idle=1.0, voices=())).make(5)
    assert torch.equal(again.pose.controls, idle.pose.controls)
    assert torch.equal(again.pose.hands, idle.pose.hands)
    assert np.array_equal(again.audio, idle.audio)
    assert torch.equal(again.identity.face.skin, idle.identity.face.skin)


def test_controls_stay_in_the_models_ranges() -> None:
    ranges = {c.name: c.range for c in preset("demo").controls.controls}
    generator = ClipGenerator(ClipConfig(num_frames=96, idle=1.0, voices=()))
    for seed in range(12):
        controls = generator.make(seed).pose.controls
        for i, name in enumerate(CONTROLS):
            assert ranges[name].min <= controls[:, i].min()
            assert controls[:, i].max() <= ranges[name].max


def test_idle_rests_breathes_blinks_and_moves(idle: Clip) -> None:
    pose = idle.pose
    assert idle.texts == () and idle.visemes == ()
    assert (pose.control("mouthClose") == 1).all()
    blinking = pose.control("eyeBlinkLeft") > 0.9
    starts = (blinking[1:] & ~blinking[:-1]).sum()
    assert 4 <= starts <= 20
    assert pose.breath.max() > 0.9 and pose.breath.min() < -0.9
    assert 0.2 < pose.control("head_yaw").std() < 10


def test_lips_rest_between_sentences(monkeypatch: pytest.MonkeyPatch) -> None:
    tone = np.sin(np.arange(8000) / 5).astype(np.float32)
    word = Speech(tone, 16000, (Phone("aa", 0.0, 0.5),), "arpabet")
    monkeypatch.setattr("mirrorme_training.clip_generator.speak", lambda *_: word)
    voice = Voice("flite", "slt", "", "en")
    clip = ClipGenerator(ClipConfig(num_frames=240, idle=0.0, voices=(voice,))).make(3)
    frames = np.array_split(np.abs(clip.clean_audio), 240)
    loud = np.array([frame.max() > 0 for frame in frames])
    silent = [n for n in range(8, 232) if not loud[n - 8 : n + 9].any()]
    assert silent, "the seed has a long pause"
    jaw = clip.pose.controls[:, CONTROL_INDEX["jawOpen"]].numpy()
    assert jaw[silent].max() < 0.1 < 0.2 < np.median(jaw[loud])


def test_audio_is_as_long_as_the_frames(idle: Clip) -> None:
    assert len(idle.audio) == NUM_FRAMES * 2000 // 3
    assert len(idle.pose) == NUM_FRAMES
    assert idle.audio.dtype == np.float32


def test_head_and_hands_do_not_jump() -> None:
    generator = ClipGenerator(ClipConfig(num_frames=240, idle=1.0, voices=()))
    for seed in range(6):
        pose = generator.make(seed).pose
        assert pose.control("head_yaw").diff().abs().max() < 4
        assert pose.hands[..., :2].diff(dim=0).abs().max() < 0.6


def test_render_gives_the_frames_asked_for(idle: Clip) -> None:
    shown = idle.render(64, slice(3, 6))
    assert shown.frames.shape == (3, 64, 64, 3)
    assert torch.equal(shown.controls, idle.pose.controls[3:6])


def test_training_people_are_not_those_of_the_examples() -> None:
    from mirrorme_training.examples import PORTRAIT_SEEDS

    assert max(PORTRAIT_SEEDS) < FIRST_TRAINING_SEED


def test_too_short_a_clip_is_refused() -> None:
    with pytest.raises(ValueError, match="num_frames is 3"):
        ClipConfig(num_frames=3)


def test_drift_is_slow_and_of_unit_size() -> None:
    curve = drift(24 * 400, 0.5, np.random.default_rng(0))
    assert 0.8 < curve.std() < 1.25
    assert np.abs(np.diff(curve)).max() < 0.6


def test_blinks_close_and_open() -> None:
    closed = blinks(24 * 60, np.random.default_rng(1))
    assert closed.max() == 1.0 and (closed == 0).mean() > 0.8
    assert 8 <= ((closed[1:] == 1) & (closed[:-1] < 1)).sum() <= 40


def test_holds_reach_their_targets() -> None:
    curve = holds(20, np.array([[0.0], [1.0], [3.0]]), np.array([0, 2, 10]), np.array([1, 5, 4]))
    assert curve[0, 0] == 0 and curve[8, 0] == pytest.approx(1) and curve[-1, 0] == pytest.approx(3)
    assert (np.diff(curve[:, 0]) >= -1e-12).all()


@pytest.mark.parametrize("language", sorted(LANGUAGES))
def test_sentences_vary(language: str) -> None:
    random = np.random.default_rng(0)
    texts = {sentence(language, random) for _ in range(40)}
    assert len(texts) > 30
    assert all("{" not in text and text[-1] in ".!?" for text in texts)


def test_exercised_controls_go_anywhere_in_silence() -> None:
    config = ClipConfig(num_frames=128, idle=0.0, exercised=1.0, voices=(), augment=None)
    generator = ClipGenerator(config)
    clips = [generator.make(seed) for seed in range(30)]
    assert not any(clip.audio.any() for clip in clips)
    reach = torch.stack([clip.pose.controls.abs().amax(dim=0) for clip in clips]).amax(dim=0)
    degrees = torch.tensor([name in HEAD_CONTROLS for name in CONTROLS])
    assert (reach[degrees] > 10).all()
    assert ((reach[~degrees] > 0.5).sum() > 25) and (reach[~degrees] <= 1).all()
    for clip in clips:
        closing = clip.pose.control("mouthClose") > 0.2
        assert (clip.pose.control("jawOpen")[closing] > 0.4).all(), "else nothing is seen of it"
