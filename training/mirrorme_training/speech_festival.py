"""Speech by festival: HTS and diphone voices in English, Italian and Catalan."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from mirrorme_training.speech import (
    Alphabet,
    Speech,
    SpeechError,
    SynthesizerMissing,
    phones_from_ends,
    read_wave,
    require_program,
    run_program,
)

_VOICE_FOLDERS = (Path("/usr/share/festival/voices"), Path("/usr/lib/festival/voices"))
_SILENCES = {"pau", "#", "sil", "_", "h#"}


@dataclass(frozen=True)
class FestivalVoice:
    """One voice and the Debian package that holds it."""

    name: str
    package: str
    alphabet: Alphabet
    encoding: str = "utf-8"

    @property
    def installed(self) -> bool:
        """Its folder is there."""
        return any(list(folder.glob(f"*/{self.name}")) for folder in _VOICE_FOLDERS)


VOICES = {
    voice.name: voice
    for voice in (
        FestivalVoice("cmu_us_slt_arctic_hts", "festvox-us-slt-hts", "arpabet"),
        FestivalVoice("kal_diphone", "festvox-kallpc16k", "arpabet"),
        FestivalVoice("ked_diphone", "festvox-kdlpc16k", "arpabet"),
        FestivalVoice("lp_diphone", "festvox-italp16k", "festival-it", "latin-1"),
        FestivalVoice("pc_diphone", "festvox-itapc16k", "festival-it", "latin-1"),
        FestivalVoice("upc_ca_ona_hts", "festvox-ca-ona-hts", "festival-ca", "latin-1"),
    )
}


def speak(text: str, voice: str, *, stretch: float = 1.0) -> Speech:
    """Speaks a text in the voice's language.

    Args:
        voice: one of `VOICES`.
        stretch: duration, 1 is the voice's own; diphone voices only, others keep theirs.

    Raises:
        SynthesizerMissing, SpeechError
    """
    program = require_program("festival", "festival")
    chosen = VOICES[voice]
    if not chosen.installed:
        raise SynthesizerMissing(
            f"voice {voice} is not installed: apt-get install {chosen.package}"
        )
    quoted = text.replace("\\", " ").replace('"', " ")
    script = (
        f"(voice_{voice})\n(Parameter.set 'Duration_Stretch {stretch})\n"
        f'(set! utt (Utterance Text "{quoted}"))\n(utt.synth utt)\n'
        '(utt.save.wave utt "speech.wav" \'riff)\n(utt.save.segs utt "speech.lab")\n'
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "speak.scm").write_bytes(script.encode(chosen.encoding, "ignore"))
        run_program([program, "-b", "speak.scm"], folder)
        samples, rate = read_wave(folder / "speech.wav")
        rows = [line.split() for line in (folder / "speech.lab").read_text("latin-1").splitlines()]
    try:
        ends = [(row[2], float(row[0])) for row in rows if len(row) == 3]
    except ValueError as error:
        raise SpeechError(f"festival's segments cannot be read: {rows[:3]}") from error
    return Speech(samples, rate, phones_from_ends(ends, _SILENCES), chosen.alphabet)
