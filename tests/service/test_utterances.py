"""Utterances follow each other without a gap, and frames belong to where they start."""

from mirrorme_engines.fake_manifest import fake_manifest
from mirrorme_service.clock import MediaClock
from mirrorme_service.utterances import Border, Utterances


def utterances() -> Utterances:
    return Utterances(MediaClock.of(fake_manifest()))


def test_first_audio_begins_the_first_utterance() -> None:
    speech = utterances()
    assert speech.pop_until(100) == []
    speech.hear()
    speech.hear()
    assert speech.pop_until(0) == [Border(0, 1, starts=True)]
    assert speech.pop_until(100) == []


def test_frame_across_the_border_belongs_to_the_earlier_utterance() -> None:
    speech = utterances()
    speech.hear()
    speech.end(1000)  # frames start at 0, 666, 1333
    speech.hear()
    speech.end(4000)
    assert speech.pop_until(1) == [Border(0, 1, starts=True)]
    assert speech.pop_until(2) == [Border(2, 1, starts=False), Border(2, 2, starts=True)]
    assert speech.pop_until(6) == [Border(6, 2, starts=False)]


def test_utterance_shorter_than_a_frame() -> None:
    speech = utterances()
    for end in (800, 900):
        speech.hear()
        speech.end(end)
    speech.end(900)
    borders = [(border.frame, border.utterance, border.starts) for border in speech.pop_until(99)]
    assert borders == [(0, 1, True), (2, 1, False), (2, 2, True), (2, 2, False)]


def test_end_without_audio_ends_nothing() -> None:
    speech = utterances()
    speech.end(0)
    speech.hear()
    speech.end(500)
    speech.end(500)
    speech.end(500)
    assert speech.num_begun == 1
    assert len(speech.pop_until(99)) == 2
