"""Speech by espeak-ng, by its C library: some forty languages, many voices, IPA phones.

The library keeps state for the whole process and serves one call at a time.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import functools
import threading

import numpy as np

from mirrorme_training.speech import Phone, Speech, SpeechError, SynthesizerMissing

LANGUAGES = (
    "en-us", "en-gb", "de", "fr-fr", "es", "it", "pt", "nl", "pl", "sv", "tr",
    "cmn-latn-pinyin",
)  # fmt: skip
VARIANTS = ("m1", "m2", "m3", "m4", "m5", "m7", "f1", "f2", "f3", "f4", "f5")

_SYNCHRONOUS = 2
_PHONEME_EVENTS_IN_IPA = 1 | 2
_UTF8 = 1
_RATE, _PITCH, _RANGE = 1, 3, 4
_EVENT_END, _EVENT_PHONEME = 0, 7
_LOCK = threading.Lock()


class _EventId(ctypes.Union):
    _fields_ = (
        ("number", ctypes.c_int),
        ("name", ctypes.c_char_p),
        ("string", ctypes.c_char * 8),
    )


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _EventId),
    )


_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)


class _Library:
    """The loaded library, for the life of the process."""

    def __init__(self) -> None:
        name = ctypes.util.find_library("espeak-ng") or "libespeak-ng.so.1"
        try:
            self.calls = ctypes.CDLL(name)
        except OSError as error:
            raise SynthesizerMissing(
                "espeak-ng is not installed: apt-get install espeak-ng"
            ) from error
        self.rate_hz = self.calls.espeak_Initialize(_SYNCHRONOUS, 0, None, _PHONEME_EVENTS_IN_IPA)
        if self.rate_hz <= 0:
            raise SynthesizerMissing("espeak-ng has no voices: apt-get install espeak-ng-data")
        self._blocks: list[np.ndarray] = []
        self._starts: list[tuple[str, float]] = []
        self._callback = _Callback(self._receive)
        self.calls.espeak_SetSynthCallback(self._callback)

    def speak(self, text: str, voice: str, words_a_minute: int, pitch: int, spread: int) -> Speech:
        self._blocks, self._starts = [], []
        if self.calls.espeak_SetVoiceByName(voice.encode()) != 0:
            raise SpeechError(f"espeak-ng has no voice {voice}")
        for parameter, value in ((_RATE, words_a_minute), (_PITCH, pitch), (_RANGE, spread)):
            self.calls.espeak_SetParameter(parameter, value, 0)
        data = text.encode() + b"\0"
        status = self.calls.espeak_Synth(data, len(data), 0, 1, 0, _UTF8, None, None)
        if status != 0 or not self._blocks:
            raise SpeechError(f"espeak-ng made no sound of {text[:60]!r}")
        samples = np.concatenate(self._blocks).astype(np.float32) / 32768
        duration = len(samples) / self.rate_hz
        ends = [*(start for _, start in self._starts[1:]), duration]
        phones = tuple(
            Phone(name, start, min(end, duration))
            for (name, start), end in zip(self._starts, ends, strict=True)
            if min(end, duration) > start
        )
        return Speech(samples, self.rate_hz, phones, "ipa")

    def _receive(self, samples: ctypes.Array, count: int, events: ctypes.Array) -> int:
        if samples and count > 0:
            self._blocks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        i = 0
        while events[i].type != _EVENT_END:
            event = events[i]
            if event.type == _EVENT_PHONEME:
                name = event.id.string.decode("utf-8", "ignore").strip("_: ")
                if not name.startswith("("):  # a change of language within the text
                    self._starts.append((name, event.audio_position / 1000))
            i += 1
        return 0


@functools.lru_cache(maxsize=1)
def _library() -> _Library:
    return _Library()


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
    voice = f"{language}+{variant}" if variant else language
    with _LOCK:
        return _library().speak(text, voice, words_a_minute, pitch, spread)
