"""Phones to visemes to the mouth."""

from __future__ import annotations

import numpy as np
import pytest
from mirrorme_training.motion_noise import FRAME_RATE
from mirrorme_training.motion_pose import Manner, frame_times_s, make_pose
from mirrorme_training.portrait_renderer import render
from mirrorme_training.portrait_sampler import sample_identity
from mirrorme_training.speech import Phone
from mirrorme_training.speech_mouth import mouth_curves
from mirrorme_training.speech_visemes import SHAPES, VISEMES, VisemeSpan, viseme_spans, visemes_of

JAW = SHAPES.index("jawOpen")


def phones(names: str, step_s: float, start_s: float = 0.3) -> tuple[Phone, ...]:
    return tuple(
        Phone("" if name == "_" else name, start_s + i * step_s, start_s + (i + 1) * step_s)
        for i, name in enumerate(names.split())
    )


@pytest.mark.parametrize(
    ("name", "alphabet", "expected"),
    [
        ("p", "arpabet", ("pp",)),
        ("ay", "arpabet", ("aa", "ee")),
        ("", "ipa", ("sil",)),
        ("oʊ", "ipa", ("oh", "oo")),
        ("tʃ", "ipa", ("dd", "ch")),
        ("ɑː", "ipa", ("aa",)),  # noqa: RUF001
        ("mʲ", "ipa", ("pp",)),
        ("o1", "festival-it", ("oh",)),
        ("ax", "festival-ca", ("er",)),
        ("??", "arpabet", ("er",)),
    ],
)
def test_visemes_of_phones(name: str, alphabet: str, expected: tuple[str, ...]) -> None:
    assert visemes_of(name, alphabet) == expected  # type: ignore[arg-type]


def test_every_viseme_has_every_shape() -> None:
    for viseme in VISEMES.values():
        assert len(viseme.shape) == len(SHAPES)
        assert all(0 <= value <= 1 for value in viseme.shape)


@pytest.mark.parametrize("step_s", [0.045, 0.07, 0.12])
@pytest.mark.parametrize("start_s", [0.30, 0.313, 0.327])
def test_lips_touch_on_every_p_b_m(step_s: float, start_s: float) -> None:
    spans = viseme_spans(phones("aa p iy b ow m ae", step_s, start_s), "arpabet")
    times = frame_times_s(36)
    _, closed = mouth_curves(spans, times)
    for span in spans:
        if span.viseme == "pp":
            near = (times > span.start_s - 0.03) & (times < span.end_s + 0.03)
            assert closed[near].max() == 1.0
    vowels = [s for s in spans if s.viseme == "aa" and s.end_s - s.start_s > 0.1]
    for span in vowels:
        middle = np.array([(span.start_s + span.end_s) / 2])
        assert mouth_curves(spans, middle)[1][0] < 0.3


def test_neighbours_colour_a_sound() -> None:
    def pucker_of_t(names: str) -> float:
        spans = viseme_spans(phones(names, 0.1), "arpabet")
        shapes, _ = mouth_curves(spans, np.array([0.3 + 0.15]))
        return float(shapes[0, SHAPES.index("mouthPucker")])

    assert pucker_of_t("uw t uw") > pucker_of_t("iy t iy") + 0.1


def test_vowels_open_the_jaw_in_their_order() -> None:
    def jaw(name: str) -> float:
        spans = viseme_spans(phones(f"_ {name} _", 0.2), "arpabet")
        return float(mouth_curves(spans, np.array([0.6]))[0][0, JAW])

    assert jaw("aa") > jaw("eh") > jaw("iy") > jaw("s") > 0


def test_rests_closed_before_between_and_after() -> None:
    spans = viseme_spans(phones("aa aa _ _ _ aa aa", 0.2, 0.5), "arpabet")
    shapes, closed = mouth_curves(spans, np.array([0.0, 0.3, 1.2, 2.3, 3.0]))
    assert (closed > 0.99).all()
    assert shapes[2, JAW] < 0.1


def test_curves_are_smooth_between_frames() -> None:
    names = "hh ax l ow _ w er l d s p iy k ih ng b aa m"
    times = np.arange(0, 2.5, 0.002)
    shapes, closed = mouth_curves(viseme_spans(phones(names, 0.08), "arpabet"), times)
    assert np.abs(np.diff(shapes, axis=0)).max() < 0.08
    assert np.abs(np.diff(closed)).max() < 0.08
    assert shapes.min() >= 0 and shapes.max() <= 1 and closed.min() >= 0 and closed.max() <= 1


def test_no_speech_is_a_closed_mouth() -> None:
    shapes, closed = mouth_curves((), frame_times_s(5))
    assert (shapes == 0).all() and (closed == 1).all()


def test_closed_lips_reach_the_pixels() -> None:
    """From phones to the rendered opening: shut on p/b/m, open on the vowels between."""
    spans = viseme_spans(phones("m aa m aa p aa b aa m", 0.125), "arpabet")
    random = np.random.default_rng(0)
    num_frames = 36
    voice = np.zeros(num_frames * 16_000 // FRAME_RATE, np.float32)
    voice[4800:22800] = random.normal(0, 0.1, 18000)
    pose = make_pose(spans, voice, num_frames, Manner(1.0, 1.0, 1.0, 0.3, "none"), random)
    opening = render(sample_identity([54]), pose, 64).mouth_open_ratio.numpy()
    times = frame_times_s(num_frames)
    for span in spans:
        near = (times > span.start_s - 0.03) & (times < span.end_s + 0.03)
        if span.viseme == "pp":
            assert opening[near].min() == 0
        else:
            assert opening[near].max() > 0.15
    assert opening[times < 0.2].max() == 0 and opening[-2:].max() == 0


def test_a_span_is_a_viseme_in_time() -> None:
    spans = viseme_spans((Phone("ay", 1.0, 1.2),), "arpabet")
    assert spans == (VisemeSpan("aa", 1.0, 1.1), VisemeSpan("ee", 1.1, 1.2))
