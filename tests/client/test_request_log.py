"""What is sent again after a takeover: exactly what the server has not."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mirrorme.animate.v1 import animation_pb2 as pb
from mirrorme_client.errors import ServerUnavailable
from mirrorme_client.request_log import RequestLog


def audio(data: bytes) -> pb.StreamAnimateRequest:
    return pb.StreamAnimateRequest(audio=pb.AudioChunk(data=data))


def end() -> pb.StreamAnimateRequest:
    return pb.StreamAnimateRequest(end_of_utterance=pb.EndOfUtterance())


def position(num_audio_bytes: int, num_requests: int) -> pb.InputPosition:
    return pb.InputPosition(num_audio_bytes=num_audio_bytes, num_requests=num_requests)


def test_a_message_taken_in_part_is_sent_in_part() -> None:
    log = RequestLog()
    for request in (audio(b"abc"), end(), audio(b"defg"), end(), audio(b"h")):
        log.append(request)
    assert log.after(position(5, 1)) == [audio(b"fg"), end(), audio(b"h")]
    assert log.after(position(3, 0)) == [end(), audio(b"defg"), end(), audio(b"h")]
    assert log.after(position(8, 2)) == []


@settings(deadline=None)
@given(
    kinds=st.lists(st.integers(0, 5), max_size=30),
    saved=st.integers(0, 100),
    wanted=st.integers(0, 100),
)
def test_any_position_from_what_was_saved_on_can_be_wanted(
    kinds: list[int], saved: int, wanted: int
) -> None:
    """Requests as kinds: 0 is an end, others are so many bytes. Positions are of bytes taken."""
    log, whole = RequestLog(), []
    for index, kind in enumerate(kinds):
        request = audio(bytes([index]) * kind) if kind else end()
        log.append(request)
        whole.append(request)
    steps = [b for r in whole for b in (list(r.audio.data) if r.HasField("audio") else [None])]

    def after(num_steps: int) -> pb.InputPosition:
        taken = steps[:num_steps]
        return position(sum(b is not None for b in taken), taken.count(None))

    saved, wanted = sorted((min(saved, len(steps)), min(wanted, len(steps))))
    log.forget_before(after(saved))
    sent = log.after(after(wanted))
    again = [b for r in sent for b in (list(r.audio.data) if r.HasField("audio") else [None])]
    assert again == steps[wanted:]


def test_what_was_forgotten_is_said() -> None:
    log = RequestLog()
    log.append(audio(b"abc"))
    log.append(audio(b"def"))
    log.forget_before(position(3, 0))
    assert log.after(position(3, 0)) == [audio(b"def")]
    with pytest.raises(ServerUnavailable, match="cannot go on"):
        log.after(position(2, 0))


def test_memory_is_bounded() -> None:
    log = RequestLog(max_bytes=1000)
    for _ in range(100):
        log.append(audio(bytes(100)))
    assert len(log) <= 10
    with pytest.raises(ServerUnavailable):
        log.after(position(0, 0))
    assert log.after(position(9_900, 0)) == [audio(bytes(100))]


def test_what_was_not_sent_is_taken_back() -> None:
    log = RequestLog()
    log.append(audio(b"abc"))
    log.append(end())
    log.take_back()
    assert log.after(position(0, 0)) == [audio(b"abc")]


def test_what_an_interrupt_overtakes_is_not_sent_again() -> None:
    log = RequestLog()
    sent, waiting, unsent = audio(b"abc"), audio(b"def"), audio(b"ghi")
    interrupt = pb.StreamAnimateRequest(interrupt=pb.Interrupt())
    for request in (sent, end(), waiting, unsent):
        log.append(request)
    log.overtake(interrupt, [waiting], unsent)
    assert log.after(position(0, 0)) == [sent, end(), interrupt, unsent]
    log.overtake(end(), [], None)
    assert log.after(position(3, 2)) == [unsent, end()]
