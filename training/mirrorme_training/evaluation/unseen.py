"""What training never saw: people, voices and texts kept for evaluation.

People: seeds below `clip_generator.FIRST_TRAINING_SEED`. Voices: variants of espeak-ng, partly in
languages, that `speech_voices` does not list. Texts: written for here, none of `speech_text`.
What is not held out: the synthesiser itself (espeak-ng), and the way from phonemes to the mouth.
"""

# Letters of other languages are meant.
from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import soxr
from numpy.typing import NDArray

from mirrorme_training import speech_espeak
from mirrorme_training.motion_noise import FRAME_RATE
from mirrorme_training.motion_pose import Manner, draw_manner, make_pose
from mirrorme_training.portrait_identity import Identity
from mirrorme_training.portrait_pose import Pose, rest_pose
from mirrorme_training.portrait_renderer import render
from mirrorme_training.portrait_sampler import sample_identity
from mirrorme_training.speech import SAMPLE_RATE_HZ, Phone
from mirrorme_training.speech_visemes import VisemeSpan, viseme_spans

PEOPLE = range(1000, 1100)
"""Identity seeds; the examples' are others."""
_PEAK = 0.6
_PAUSE_S = 0.45
_CURVE_SIZE_PX = 32
_NEUTRAL = Manner(head=0.0, face=0.0, mouth=1.0, smile=0.0, hands="none")


@dataclass(frozen=True)
class Reader:
    """A voice with what it says."""

    language: str
    """As espeak-ng names it."""
    variant: str
    texts: tuple[str, ...]

    @property
    def name(self) -> str:
        """As espeak-ng names the voice."""
        return f"{self.language}+{self.variant}"


READERS = (
    Reader("en-us", "klatt2", (
        "Pamela keeps a map of every bump in the road.",
        "The evening ferry was late, so we ate plums on the platform.",
        "My brother mumbles, but the puppy obeys him.",
    )),
    Reader("en-gb-scotland", "belinda", (
        "Put the empty bottles by the back door, please.",
        "A warm wind moved over the purple moor.",
        "Maybe both lamps were broken before we came.",
    )),
    Reader("ro", "Andy", (
        "Pe masă era o pâine mare și proaspătă.",
        "Bunica mea plimbă un câine alb prin parc.",
        "Mâine plecăm la munte, dar poate va ploua.",
    )),
    Reader("en-gb-x-rp", "steph", (
        "Someone has painted the number five above our window.",
        "He whispered that the moon would be bigger tomorrow.",
        "Bring me four cups, a spoon and the pepper.",
    )),
    Reader("fi", "max", (
        "Puhuimme pitkään matkasta meren yli.",
        "Pimeä pihapolku vie vanhaan myllyyn.",
        "Ehkä pappa muistaa vielä monta laulua.",
    )),
    Reader("en-us", "anika", (
        "The committee promised to publish the map by September.",
        "Both of them jumped when the bell rang upstairs.",
        "If memory serves, we have met somewhere before.",
    )),
    Reader("da", "rob", (
        "Min mor købte ti pærer og en bog om fugle.",
        "Om morgenen blæser vinden over broen.",
        "Vi mødes ved den brune port klokken fem.",
    )),
    Reader("en-us", "linda", (
        "Simple problems may hide beneath a complex map.",
        "Every Monday the postman hums a different melody.",
        "Feel free to borrow my umbrella, but bring it back.",
    )),
)  # fmt: skip
FAMILIAR = Reader("en-us", "f2", (
    "Nobody brings a bigger basket to the harvest market.",
    "Five men moved the piano up the steps before breakfast.",
    "My aunt paints maps of places that may not exist.",
))  # fmt: skip
"""A voice that training does hear, with texts that it does not: what is left is the person's."""


@dataclass(frozen=True)
class Recital:
    """Speech with the times of its visemes, and the mouth that goes with it."""

    reader: str
    samples: NDArray[np.float32]
    """[N] 16 kHz, clean"""
    spans: tuple[VisemeSpan, ...]
    num_frames: int

    def act(self, seed: int) -> Pose:
        """Somebody lively who says it, without hands."""
        random = np.random.default_rng(seed)
        manner = dataclasses.replace(draw_manner(random), hands="none")
        return make_pose(self.spans, self.samples, self.num_frames, manner, random)

    def mouth_opening(self, person: Identity) -> NDArray[np.float64]:
        """`[T]` rendered opening over the mouth's width: head straight, no smile."""
        random = np.random.default_rng(0)
        pose = make_pose(self.spans, self.samples, self.num_frames, _NEUTRAL, random)
        shown = render(person, pose, _CURVE_SIZE_PX)
        return shown.mouth_open_ratio.numpy().astype(np.float64)


def recite(reader: Reader) -> Recital:
    """Speaks a reader's texts with pauses before, between and after; whole chunks of 8 frames.

    Raises:
        SynthesizerMissing, SpeechError
    """
    pieces: list[NDArray[np.float32]] = [_silence()]
    phones: list[Phone] = []
    for text in reader.texts:
        speech = speech_espeak.speak(text, reader.language, reader.variant)
        start_s = sum(map(len, pieces)) / SAMPLE_RATE_HZ
        samples = soxr.resample(speech.samples, speech.sample_rate_hz, SAMPLE_RATE_HZ)
        pieces += [samples * np.float32(_PEAK / (np.abs(samples).max() + 1e-9)), _silence()]
        phones += [Phone(p.name, p.start_s + start_s, p.end_s + start_s) for p in speech.phones]
        # Said to be silent: without a sound in between, the mouth would only go on to the next.
        pause_s = start_s + speech.duration_s
        phones.append(Phone("", pause_s, pause_s + _PAUSE_S))
    joined = np.concatenate(pieces)
    num_frames = 8 * -(-len(joined) * FRAME_RATE // (8 * SAMPLE_RATE_HZ))
    samples = np.pad(joined, (0, num_frames * SAMPLE_RATE_HZ // FRAME_RATE - len(joined)))
    return Recital(
        reader.name, samples.astype(np.float32), viseme_spans(tuple(phones), "ipa"), num_frames
    )


def person(seed: int) -> Identity:
    """One person, half body."""
    return sample_identity([seed])


def portrait(someone: Identity, size_px: int) -> NDArray[np.uint8]:
    """The picture that a session is given: at rest, looking at the viewer, `[H, W, 3]`."""
    return render(someone, rest_pose(1), size_px).frames[0].numpy()


def _silence() -> NDArray[np.float32]:
    return np.zeros(int(_PAUSE_S * SAMPLE_RATE_HZ), np.float32)
