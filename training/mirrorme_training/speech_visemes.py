"""Phones to visemes: which shape of the mouth each speech sound asks for."""

# Letters of other languages and of phonetic script are meant.
# ruff: noqa: RUF001
from __future__ import annotations

import unicodedata
from dataclasses import dataclass

from mirrorme_training.speech import Alphabet, Phone

SHAPES = (
    "jawOpen",
    "mouthFunnel",
    "mouthPucker",
    "mouthStretch",
    "mouthRollLower",
    "mouthUpperUp",
    "mouthLowerDown",
    "tongue",
)
"""What a viseme sets, besides closed lips; `mouthStretch` stands for both sides."""


@dataclass(frozen=True)
class Viseme:
    """A target for the mouth."""

    shape: tuple[float, ...]
    """In the order of `SHAPES`, 0 to 1 each."""
    strength: float
    """How much it wins over its neighbours."""
    closed: bool = False
    """Lips touch."""


@dataclass(frozen=True)
class VisemeSpan:
    """A viseme in time."""

    viseme: str
    start_s: float
    end_s: float


#            jaw  funnel pucker stretch roll upper lower tongue
VISEMES = {
    "sil": Viseme((0.00, 0.00, 0.00, 0.00, 0.00, 0.00, 0.00, 0.0), 1.0, closed=True),
    "pp": Viseme((0.06, 0.00, 0.05, 0.00, 0.00, 0.00, 0.00, 0.0), 1.2, closed=True),
    "ff": Viseme((0.10, 0.00, 0.00, 0.10, 1.00, 0.45, 0.00, 0.0), 1.1),
    "th": Viseme((0.18, 0.00, 0.00, 0.20, 0.00, 0.25, 0.35, 1.0), 0.8),
    "dd": Viseme((0.16, 0.00, 0.00, 0.18, 0.00, 0.20, 0.30, 0.8), 0.5),
    "kk": Viseme((0.22, 0.05, 0.00, 0.10, 0.00, 0.15, 0.25, 0.2), 0.4),
    "ch": Viseme((0.14, 0.65, 0.25, 0.00, 0.00, 0.40, 0.40, 0.3), 0.9),
    "ss": Viseme((0.08, 0.00, 0.00, 0.45, 0.00, 0.35, 0.55, 0.4), 0.8),
    "rr": Viseme((0.18, 0.40, 0.20, 0.00, 0.00, 0.20, 0.20, 0.3), 0.6),
    "aa": Viseme((0.85, 0.05, 0.00, 0.15, 0.00, 0.25, 0.40, 0.0), 1.0),
    "ah": Viseme((0.55, 0.05, 0.00, 0.15, 0.00, 0.20, 0.30, 0.1), 0.9),
    "eh": Viseme((0.48, 0.00, 0.00, 0.45, 0.00, 0.30, 0.45, 0.3), 0.9),
    "ee": Viseme((0.22, 0.00, 0.00, 0.80, 0.00, 0.35, 0.55, 0.5), 1.0),
    "oh": Viseme((0.55, 0.55, 0.30, 0.00, 0.00, 0.10, 0.10, 0.0), 1.0),
    "oo": Viseme((0.22, 0.30, 0.85, 0.00, 0.00, 0.00, 0.00, 0.0), 1.1),
    "er": Viseme((0.32, 0.15, 0.05, 0.05, 0.00, 0.15, 0.20, 0.2), 0.6),
    "hh": Viseme((0.30, 0.00, 0.00, 0.10, 0.00, 0.15, 0.20, 0.0), 0.2),
}

_ARPABET = {
    "pp": "p b m em",
    "ff": "f v",
    "th": "th dh",
    "dd": "t d n l dx nx en el",
    "kk": "k g ng",
    "ch": "ch jh sh zh",
    "ss": "s z",
    "rr": "r",
    "aa": "aa",
    "ah": "ah",
    "eh": "ae eh",
    "ee": "iy ih y ix",
    "oh": "ao",
    "oo": "uw uh w",
    "er": "er ax axr",
    "hh": "hh hv",
    "aa ee": "ay",
    "aa oo": "aw",
    "oh ee": "oy",
    "eh ee": "ey",
    "oh oo": "ow",
}
_IPA = {
    "pp": "pbmɓʙ",
    "ff": "fvɱ",
    "th": "θð",
    "dd": "tdnlɾɖʈɗɫɭɳ",
    "kk": "kɡgŋxɣqχɰ",
    "ch": "ʃʒɕʑʂʐç",
    "ss": "szɬ",
    "rr": "ɹrʁʀɻɽ",
    "aa": "aɑɐɒ",
    "ah": "ʌ",
    "eh": "eɛæœø",
    "ee": "iɪjɨʝɲɟʎy",
    "oh": "oɔɤ",
    "oo": "uʊwɯʉʋβɥ",
    "er": "əɜɚɘɵ",
    "hh": "hɦʔħ",
}
_FESTIVAL = {
    "pp": "p b m B",
    "ff": "f v",
    "dd": "t d n l ll D rr r L",
    "kk": "k g ng G x",
    "ch": "ch tS dZ S Z tSS dZZ gn J",
    "ss": "s z ts dz tts ddz ss",
    "aa": "a",
    "eh": "e E",
    "ee": "i j y",
    "oh": "o O",
    "oo": "u w uw",
    "er": "ax @",
}


def _by_name(table: dict[str, str], *, by_character: bool = False) -> dict[str, tuple[str, ...]]:
    return {
        name: tuple(visemes.split())
        for visemes, names in table.items()
        for name in (names if by_character else names.split())
    }


_TABLES: dict[Alphabet, dict[str, tuple[str, ...]]] = {
    "arpabet": _by_name(_ARPABET),
    "ipa": _by_name(_IPA, by_character=True),
    "festival-it": _by_name(_FESTIVAL),
    "festival-ca": _by_name(_FESTIVAL),
}


def visemes_of(name: str, alphabet: Alphabet) -> tuple[str, ...]:
    """The visemes that a phone goes through; a sound that is not known is a neutral vowel."""
    if not name:
        return ("sil",)
    table = _TABLES[alphabet]
    if alphabet != "ipa":
        return table.get(name.rstrip("0123456789")) or table.get(name) or ("er",)
    plain = unicodedata.normalize("NFD", name)
    parts = [viseme for character in plain for viseme in table.get(character, ())]
    return tuple(parts) or ("er",)


def viseme_spans(phones: tuple[Phone, ...], alphabet: Alphabet) -> tuple[VisemeSpan, ...]:
    """The visemes of a speech in time; a phone of several shares its time among them."""
    spans = []
    for phone in phones:
        names = visemes_of(phone.name, alphabet)
        length_s = phone.end_s - phone.start_s
        edges = [phone.start_s + length_s * (i / len(names)) for i in range(len(names) + 1)]
        spans.extend(map(VisemeSpan, names, edges, edges[1:]))
    return tuple(spans)
