"""Synthesisers, where they are installed: phone times that fit the sound."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from mirrorme_training import speech, speech_espeak, speech_festival, speech_flite
from mirrorme_training.clip_generator import ClipConfig, ClipGenerator
from mirrorme_training.speech import Speech, SynthesizerMissing
from mirrorme_training.speech_text import LANGUAGES
from mirrorme_training.speech_visemes import visemes_of
from mirrorme_training.speech_voices import Voice, all_voices, is_installed

needs_espeak = pytest.mark.skipif(
    not speech_espeak.is_installed(),
    reason="espeak-ng is not installed (Debian package espeak-ng)",
)
needs_flite = pytest.mark.skipif(
    shutil.which("flite") is None, reason="flite is not installed (Debian package flite)"
)
needs_festival = pytest.mark.skipif(
    not is_installed(Voice("festival", "cmu_us_slt_arctic_hts", "", "en")),
    reason="festival's HTS voice is not installed (Debian package festvox-us-slt-hts)",
)
TEXT = "My baby bought a purple pepper map."


def check_times(made: Speech) -> None:
    """Phones are in order and inside; sounds are louder than silences."""
    starts = [phone.start_s for phone in made.phones]
    assert starts == sorted(starts)
    assert all(phone.start_s < phone.end_s <= made.duration_s + 0.1 for phone in made.phones)
    assert all(
        a.end_s <= b.start_s + 1e-6 for a, b in zip(made.phones, made.phones[1:], strict=False)
    )
    rate = made.sample_rate_hz
    voiced, silent = [], []
    for phone in made.phones:
        part = made.samples[int(phone.start_s * rate) : int(phone.end_s * rate)]
        if len(part) > 0.02 * rate:
            level = float(np.sqrt(np.mean(part**2)))
            viseme = visemes_of(phone.name, made.alphabet)[0]
            if viseme in ("aa", "ee", "eh", "oh"):
                voiced.append(level)
            elif not phone.name:
                silent.append(level)
    assert len(voiced) >= 3
    assert np.median(voiced) > 0.02
    assert not silent or np.median(silent) < 0.3 * np.median(voiced)
    names = [visemes_of(phone.name, made.alphabet)[0] for phone in made.phones]
    assert names.count("pp") == 10


@needs_espeak
def test_espeak_times() -> None:
    made = speech_espeak.speak(TEXT, "en-us", "f2")
    check_times(made)
    slow = speech_espeak.speak(TEXT, "en-us", "f2", words_a_minute=90)
    assert slow.duration_s > 1.3 * made.duration_s


@needs_espeak
@pytest.mark.parametrize("language", speech_espeak.LANGUAGES)
def test_espeak_speaks_every_language(language: str) -> None:
    words = LANGUAGES[language.split("-")[0]].split("|")
    made = speech_espeak.speak(" ".join(words[:4]) or "hello there", language)
    assert made.duration_s > 0.4 and len(made.phones) > 4


@needs_espeak
def test_espeak_refuses_an_unknown_voice() -> None:
    with pytest.raises(speech.SpeechError, match="no voice"):
        speech_espeak.speak("hello", "xx-unknown")


@needs_flite
def test_flite_times() -> None:
    check_times(speech_flite.speak(TEXT, "slt"))


@needs_festival
def test_festival_times() -> None:
    check_times(speech_festival.speak(TEXT, "cmu_us_slt_arctic_hts"))


@needs_espeak
def test_clip_of_a_seed_is_reproducible() -> None:
    voice = Voice("espeak", "en-us", "m3", "en")
    config = ClipConfig(num_frames=48, idle=0.0, voices=(voice,))
    first, second = (ClipGenerator(config).make(11) for _ in range(2))
    assert first.texts == second.texts and first.visemes == second.visemes
    assert np.array_equal(first.audio, second.audio)
    assert np.array_equal(first.pose.controls.numpy(), second.pose.controls.numpy())
    assert first.pose.control("jawOpen").max() > 0.2


@needs_espeak
def test_mouth_moves_with_the_speech() -> None:
    voice = Voice("espeak", "en-us", "m3", "en")
    config = ClipConfig(num_frames=192, idle=0.0, voices=(voice,), augment=None)
    clip = ClipGenerator(config).make(2)
    opening = clip.render(32).mouth_open_ratio.numpy()
    level = np.sqrt(np.mean(clip.clean_audio[: 192 * 666].reshape(192, -1) ** 2, axis=1))
    kernel = np.ones(3) / 3
    assert (
        np.corrcoef(np.convolve(opening, kernel, "same"), np.convolve(level, kernel, "same"))[0, 1]
        > 0.4
    )


def test_missing_programs_name_their_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(SynthesizerMissing, match="apt-get install flite"):
        speech_flite.speak("hello", "slt")
    with pytest.raises(SynthesizerMissing, match="apt-get install festival"):
        speech_festival.speak("hello", "kal_diphone")


def test_missing_espeak_names_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speech_espeak, "is_installed", lambda: False)
    with pytest.raises(SynthesizerMissing, match="apt-get install espeak-ng"):
        speech_espeak.speak("hello", "en-us")


def test_no_voice_at_all_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mirrorme_training.clip_generator.is_installed", lambda _: False)
    with pytest.raises(SynthesizerMissing, match="apt-get install espeak-ng flite festival"):
        ClipGenerator(ClipConfig(num_frames=24))


def test_every_voice_has_texts() -> None:
    assert {voice.language for voice in all_voices()} <= LANGUAGES.keys()
