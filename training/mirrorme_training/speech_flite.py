"""Speech by flite (English)."""

from __future__ import annotations

import tempfile
from pathlib import Path

from mirrorme_training.speech import (
    Speech,
    SpeechError,
    phones_from_ends,
    read_wave,
    require_program,
    run_program,
)

VOICES = ("kal16", "awb", "rms", "slt")


def speak(text: str, voice: str, *, stretch: float = 1.0) -> Speech:
    """Speaks an English text.

    Args:
        voice: one of `VOICES`.
        stretch: duration, 1 is the voice's own.

    Raises:
        SynthesizerMissing, SpeechError
    """
    program = require_program("flite", "flite")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "speech.wav"
        command = [program, "-psdur", "-voice", voice, "--setf", f"duration_stretch={stretch}"]
        printed = run_program([*command, "-t", text, "-o", str(path)], Path(folder))
        samples, rate = read_wave(path)
    try:
        ends = [(name, float(end)) for name, end in (pair.split(":") for pair in printed.split())]
    except ValueError as error:
        raise SpeechError(f"flite printed no phones: {printed[:100]!r}") from error
    return Speech(samples, rate, phones_from_ends(ends, {"pau"}), "arpabet")
