"""Speech by espeak-ng: some forty languages, many voices, IPA phones."""

from __future__ import annotations

import ctypes.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from mirrorme_training import speech_espeak_program
from mirrorme_training.speech import Phone, Speech, SpeechError, SynthesizerMissing

LANGUAGES = (
    "en-us",
    "en",
    "de",
    "fr",
    "es",
    "it",
    "pt",
    "nl",
    "pl",
    "sv",
    "tr",
    "cmn-latn-pinyin",
)
VARIANTS = (
    "m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8", "f1", "f2", "f3", "f4", "f5",
    "Alex", "Alicia", "Annie", "Denis", "Diogo", "Gene", "Henrique", "Hugo", "Jacky", "Lee",
    "Marco", "Mario", "Michael", "Mike", "adam", "caleb", "david", "ed", "edward", "grandma",
    "grandpa", "gustave", "iven", "john", "marcelo", "miguel", "norbert", "pablo", "paul", "pedro",
    "quincy", "sandro", "shelby", "victor", "zac",
)  # fmt: skip
"""Those that evaluation speaks with are left out, and their kin."""
_TIMEOUT_S = 60


def is_installed() -> bool:
    """The library is there."""
    return ctypes.util.find_library("espeak-ng") is not None


def speak(
    text: str,
    language: str,
    variant: str = "",
    *,
    words_a_minute: int = 170,
    pitch: int = 50,
    spread: int = 50,
) -> Speech:
    """Speaks a text.

    Args:
        language: as espeak-ng names it, for example one of `LANGUAGES`.
        variant: one of `VARIANTS`, or "" for the language's own voice.
        pitch: 0 to 100.
        spread: of the intonation, 0 to 100.

    Raises:
        SynthesizerMissing, SpeechError
    """
    if not is_installed():
        raise SynthesizerMissing("espeak-ng is not installed: apt-get install espeak-ng")
    voice = f"{language}+{variant}" if variant else language
    program = str(Path(speech_espeak_program.__file__))
    numbers = [str(words_a_minute), str(pitch), str(spread)]
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", program, voice, *numbers, text],
            capture_output=True,
            timeout=_TIMEOUT_S,
            check=True,
        )
    except subprocess.TimeoutExpired as error:
        raise SpeechError(f"espeak-ng did not end within {_TIMEOUT_S} s") from error
    except subprocess.CalledProcessError as error:
        if error.returncode == speech_espeak_program.EXIT_MISSING:
            raise SynthesizerMissing(
                "espeak-ng has no voices: apt-get install espeak-ng espeak-ng-data"
            ) from error
        message = error.stderr.decode(errors="replace").strip()[-300:]
        raise SpeechError(f"espeak-ng failed on {text[:60]!r}: {message}") from error
    return _parse(done.stdout, text)


def _parse(output: bytes, text: str) -> Speech:
    head, _, data = output.partition(b"\n")
    header = json.loads(head)
    samples = np.frombuffer(data, "<i2").astype(np.float32) / np.float32(32768)
    if not len(samples):
        raise SpeechError(f"espeak-ng made no sound of {text[:60]!r}")
    rate, starts = header["sample_rate_hz"], header["starts"]
    duration = len(samples) / rate
    ends = [*(start for _, start in starts[1:]), duration]
    phones = tuple(
        Phone(name, start, min(end, duration))
        for (name, start), end in zip(starts, ends, strict=True)
        if min(end, duration) > start
    )
    return Speech(samples, rate, phones, "ipa")
