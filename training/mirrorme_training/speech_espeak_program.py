"""One utterance of espeak-ng, as a program: arguments in, phones and samples on standard output.

The library keeps state from utterance to utterance that changes the sound a little; in a process of
its own the same text gives the same samples. Imports the standard library only, to start quickly.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import json
import sys

EXIT_MISSING = 3
"""The library or its data is not installed."""
EXIT_FAILED = 4
"""It refuses the voice or the text; standard error says why."""

_SYNCHRONOUS = 2
_PHONEME_EVENTS_IN_IPA = 1 | 2
_UTF8 = 1
_RATE, _PITCH, _RANGE = 1, 3, 4
_EVENT_END, _EVENT_PHONEME = 0, 7


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


class _Utterance:
    """Collects what the library hands out while it speaks."""

    def __init__(self) -> None:
        self.samples = bytearray()
        self.starts: list[tuple[str, float]] = []

    def receive(self, samples: ctypes._Pointer, count: int, events: ctypes._Pointer) -> int:
        if samples and count > 0:
            self.samples += ctypes.string_at(samples, 2 * count)
        i = 0
        while events[i].type != _EVENT_END:
            if events[i].type == _EVENT_PHONEME:
                name = events[i].id.string.decode("utf-8", "ignore").strip("_: ")
                if not name.startswith("("):  # a change of language within the text
                    self.starts.append((name, events[i].audio_position / 1000))
            i += 1
        return 0


def _load() -> tuple[ctypes.CDLL, int]:
    try:
        library = ctypes.CDLL(ctypes.util.find_library("espeak-ng") or "libespeak-ng.so.1")
    except OSError:
        sys.exit(EXIT_MISSING)
    rate_hz = library.espeak_Initialize(_SYNCHRONOUS, 0, None, _PHONEME_EVENTS_IN_IPA)
    if rate_hz <= 0:
        sys.exit(EXIT_MISSING)
    return library, rate_hz


def _fail(message: str) -> None:
    sys.stderr.write(message)
    sys.exit(EXIT_FAILED)


def main(voice: str, words_a_minute: int, pitch: int, spread: int, text: str) -> None:
    """Writes a line of JSON (rate, phones' names and starts in seconds), then samples s16."""
    library, rate_hz = _load()
    utterance = _Utterance()
    callback = _Callback(utterance.receive)
    library.espeak_SetSynthCallback(callback)
    if library.espeak_SetVoiceByName(voice.encode()) != 0:
        _fail(f"there is no voice {voice}")
    for parameter, value in ((_RATE, words_a_minute), (_PITCH, pitch), (_RANGE, spread)):
        library.espeak_SetParameter(parameter, value, 0)
    data = text.encode() + b"\0"
    if library.espeak_Synth(data, len(data), 0, 1, 0, _UTF8, None, None) != 0:
        _fail("the text was refused")
    header = {"sample_rate_hz": rate_hz, "starts": utterance.starts}
    sys.stdout.buffer.write(json.dumps(header).encode() + b"\n" + bytes(utterance.samples))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5])
