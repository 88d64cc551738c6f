"""All voices of all synthesisers under one roof, and what is installed of them."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mirrorme_training import speech_espeak, speech_festival, speech_flite
from mirrorme_training.speech import Speech

_FESTIVAL_LANGUAGES = {"arpabet": "en", "festival-it": "it", "festival-ca": "ca", "ipa": "en"}


@dataclass(frozen=True)
class Voice:
    """One speaker."""

    engine: Literal["espeak", "flite", "festival"]
    name: str
    """As the engine calls it; espeak-ng's language."""
    variant: str
    """espeak-ng's variant, else ""."""
    language: str
    """Of the texts it can read, a key of `speech_text.LANGUAGES`."""


def all_voices() -> list[Voice]:
    """Every voice that this package can use, installed or not, in a fixed order."""
    voices = [Voice("flite", name, "", "en") for name in speech_flite.VOICES]
    for voice in speech_festival.VOICES.values():
        language = _FESTIVAL_LANGUAGES[voice.alphabet]
        voices.append(Voice("festival", voice.name, "", language))
    for name in speech_espeak.LANGUAGES:
        language = name.split("-")[0]
        voices.extend(Voice("espeak", name, kind, language) for kind in speech_espeak.VARIANTS)
    return voices


def is_installed(voice: Voice) -> bool:
    """The engine and the voice are there."""
    match voice.engine:
        case "espeak":
            return speech_espeak.is_installed()
        case "flite":
            return shutil.which("flite") is not None
        case "festival":
            installed = speech_festival.VOICES[voice.name].installed
            return shutil.which("festival") is not None and installed


def speak(text: str, voice: Voice, random: np.random.Generator) -> Speech:
    """Speaks a text with rate and intonation drawn around the voice's own.

    Raises:
        SynthesizerMissing, SpeechError
    """
    stretch = float(random.uniform(0.85, 1.25))
    match voice.engine:
        case "espeak":
            return speech_espeak.speak(
                text,
                voice.name,
                voice.variant,
                words_a_minute=round(165 / stretch),
                pitch=int(random.integers(30, 71)),
                spread=int(random.integers(30, 81)),
            )
        case "flite":
            return speech_flite.speak(text, voice.name, stretch=stretch)
        case "festival":
            return speech_festival.speak(text, voice.name, stretch=stretch)
