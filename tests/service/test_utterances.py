"""Frames belong to the utterance that they start in, and a cut ends what is open."""

from mirrorme_engines.fake_manifest import fake_manifest
from mirrorme_service.clock import MediaClock
from mirrorme_service.utterances import Border, Utterances


def utterances(*spans: tuple[int, int | None]) -> Utterances:
    """Utterances from 1 at these samples; None: not ended."""
    result = Utterances(MediaClock.of(fake_manifest()))
    for number, (start, stop) in enumerate(spans, 1):
        result.begin(number, start)
        if stop is not None:
            result.end(number, stop)
    return result


def test_each_border_is_given_once() -> None:
    speech = utterances((0, None))
    assert speech.next_border_frame == 0
    assert speech.pop_until(0) == [Border(0, 1, starts=True)]
    assert speech.pop_until(100) == []
    assert speech.next_border_frame is None


def test_frame_across_the_border_belongs_to_the_earlier_utterance() -> None:
    speech = utterances((0, 1000), (1000, 4000))  # frames start at 0, 666, 1333
    assert speech.pop_until(1) == [Border(0, 1, starts=True)]
    assert speech.pop_until(2) == [Border(2, 1, starts=False), Border(2, 2, starts=True)]
    assert speech.pop_until(6) == [Border(6, 2, starts=False)]


def test_utterance_shorter_than_a_frame() -> None:
    speech = utterances((0, 800), (800, 900))
    borders = [(border.frame, border.utterance, border.starts) for border in speech.pop_until(99)]
    assert borders == [(0, 1, True), (2, 1, False), (2, 2, True), (2, 2, False)]


def test_cut_ends_the_open_utterance_and_undoes_those_after_it() -> None:
    speech = utterances((0, 16_000), (20_000, 30_000))
    speech.pop_until(3)
    speech.cut(8000)
    assert speech.pop_until(999) == [Border(12, 1, starts=False, interrupted=True)]


def test_cut_before_the_beginning_leaves_nothing() -> None:
    speech = utterances((8000, 16_000))
    speech.cut(8000)
    assert speech.pop_until(999) == []


def test_cut_after_the_end_changes_nothing() -> None:
    speech = utterances((0, 8000))
    speech.cut(16_000)
    assert speech.pop_until(999) == [Border(0, 1, starts=True), Border(12, 1, starts=False)]


def test_cut_within_what_was_not_told_yet() -> None:
    speech = utterances((0, None))
    speech.cut(8000)
    expected = [Border(0, 1, starts=True), Border(12, 1, starts=False, interrupted=True)]
    assert speech.pop_until(999) == expected
