"""Speech that waits: in order, with the borders of utterances where they lie."""

import numpy as np
from mirrorme_service.speech_queue import SpeechPiece, SpeechQueue


def queue(*utterances: int, is_open: bool = False) -> SpeechQueue:
    """Utterances of so many samples, numbered through."""
    result, value = SpeechQueue(), 0
    for index, length in enumerate(utterances):
        result.hear()
        result.push(np.arange(value, value + length, dtype=np.float32))
        value += length
        if not (is_open and index == len(utterances) - 1):
            result.end(np.zeros(0, np.float32))
    return result


def told(pieces: list[SpeechPiece]) -> list[tuple[int, str, list[float]]]:
    marks = [("<" if piece.starts else "") + (">" if piece.ends else "") for piece in pieces]
    return [
        (piece.utterance, mark, piece.samples.tolist())
        for piece, mark in zip(pieces, marks, strict=True)
    ]


def test_pulled_in_parts() -> None:
    speech = queue(3, 2)
    assert speech.num_samples == 5
    assert told(speech.pull(2)) == [(1, "<", []), (1, "", [0, 1])]
    assert told(speech.pull(2)) == [(1, "", [2]), (1, ">", []), (2, "<", []), (2, "", [3])]
    assert told(speech.pull(9)) == [(2, "", [4]), (2, ">", [])]
    assert speech.num_samples == 0


def test_cut_drops_all() -> None:
    speech = queue(3, 2, is_open=True)
    assert speech.cut(0) == 5
    assert speech.num_samples == 0
    assert not speech.is_open
    speech.hear()
    assert speech.num_utterances == 3


def test_cut_keeps_the_oldest_and_ends_them() -> None:
    speech = queue(3, 2)
    assert speech.cut(2) == 3
    assert told(speech.pull(9)) == [(1, "<", []), (1, ">", [0, 1])]


def test_end_without_audio_ends_nothing() -> None:
    speech = SpeechQueue()
    speech.end(np.zeros(0, np.float32))
    assert speech.pull(9) == []
    assert speech.num_utterances == 0
