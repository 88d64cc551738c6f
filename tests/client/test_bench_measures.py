"""What the load test makes of a session's record, on records whose figures are known."""

from __future__ import annotations

import pytest
from mirrorme.animate.v1 import animation_pb2 as pb
from mirrorme_client.bench import measures
from mirrorme_client.bench.figures import Figures, Objective
from mirrorme_client.bench.load import find_largest, largest
from mirrorme_client.bench.session_record import Arrival, SessionRecord
from mirrorme_client.bench.talk import TalkStyle, talk
from mirrorme_client.bench.voice import Voice

FRAME_S = 1 / 24


def arrival(at_s: float, frame: int, num_frames: int = 1, **fields) -> Arrival:
    first, end = (n * 2000 // 3 for n in (frame, frame + num_frames))
    known = {"epoch": 0, "utterance": 1, "is_idle": False, "num_samples": end - first}
    return Arrival(at_s, frame, num_frames, first, **{**known, **fields})


def record(*arrivals: Arrival, is_paced: bool = True, **fields) -> SessionRecord:
    return SessionRecord(is_paced=is_paced, arrivals=list(arrivals), **fields)


def steady(num_frames: int, start_s: float = 5.0) -> list[Arrival]:
    return [arrival(start_s + n * FRAME_S, n) for n in range(num_frames)]


def test_steady_frames_are_perfect() -> None:
    perfect = record(*steady(240))
    assert max(measures.jitters_ms(perfect)) < 1e-6
    assert max(measures.latenesses_ms(perfect)) < 1e-6
    assert abs(measures.drift_ms(perfect)) < 1e-6
    assert max(map(abs, measures.av_offsets_ms(perfect))) < 1000 / 16_000
    assert measures.gaps(perfect) == measures.Gaps()


def test_one_late_frame() -> None:
    arrivals = steady(48)
    arrivals[20] = arrival(arrivals[20].at_s + 0.1, 20)
    late = record(*arrivals)
    assert sorted(measures.jitters_ms(late))[-3:] == pytest.approx([0, 100, 100], abs=1e-6)
    assert max(measures.latenesses_ms(late)) == pytest.approx(100)
    assert Figures.of([late]).late_share == pytest.approx(1 / 48)


def test_drift() -> None:
    slow = record(*[arrival(n * FRAME_S * 1.01, n) for n in range(240)])
    assert measures.drift_ms(slow) == pytest.approx(1000 * 216 * FRAME_S * 0.01)


def test_chunks_of_a_server_that_does_not_pace() -> None:
    """A chunk of two batches at once is no jitter, and none of its frames is late."""
    chunks = [
        arrival(chunk * 8 * FRAME_S, 8 * chunk + part, 4) for chunk in range(9) for part in (0, 4)
    ]
    whole = record(*chunks, is_paced=False)
    assert max(measures.jitters_ms(whole)) < 1e-6
    assert max(measures.latenesses_ms(whole)) < 1e-6
    assert min(measures.latenesses_ms(whole)) == pytest.approx(-7000 / 24)


def test_first_frames_of_each_utterance() -> None:
    frames = [
        arrival(10.0, 0, utterance=0, is_idle=True),
        arrival(10.6, 1, utterance=1),
        arrival(11.0, 2, utterance=1, is_idle=True),
        arrival(12.9, 3, utterance=3),
    ]
    spoken = record(*frames, onsets_s=[10.0, 11.5, 12.0], algorithmic_latency_s=0.5)
    assert measures.first_frames_ms(spoken) == pytest.approx([100, 400])


def test_barge_in_ends_with_the_last_stale_frame() -> None:
    frames = [
        arrival(1.00, 0),
        arrival(1.07, 1),
        arrival(1.20, 2, epoch=1, is_idle=True),
        arrival(2.00, 3, epoch=1, utterance=2),
        arrival(2.20, 4, epoch=2, is_idle=True),
    ]
    cut = record(*frames, interrupts_s=[1.02, 2.1, 2.3])
    assert measures.barge_ins_ms(cut) == pytest.approx([50, 0]), "the third was not answered"


def test_a_picture_that_holds_after_an_interrupt() -> None:
    """Sent twice more, and left out once; the second interrupt shows something else at once, and
    after the third nothing else came."""
    cut = record(
        arrival(0.0, 0, picture=5),
        arrival(0.1, 1, epoch=1, picture=5),
        arrival(0.2, 3, epoch=1, picture=5),
        arrival(0.3, 4, epoch=1, picture=6),
        arrival(0.4, 5, epoch=2, picture=7),
        arrival(0.5, 6, epoch=3, picture=7),
    )
    assert measures.holds_ms(cut) == pytest.approx([3000 / 24, 0])


def test_audio_that_is_short() -> None:
    short = record(*[arrival(n, n, num_samples=600) for n in range(10)])
    assert min(measures.av_offsets_ms(short)) == pytest.approx(-10_000 * (2000 / 3 - 600) / 16e3)


def test_frames_that_are_missing() -> None:
    frames = [
        arrival(0, 0, 4),
        arrival(1, 6, num_samples=2000),  # the audio of two more
        arrival(2, 10, epoch=1, num_samples=2667),
        arrival(3, 10, epoch=1, num_samples=0),
    ]
    cut = record(*frames)
    assert measures.gaps(cut) == measures.Gaps(by_interrupts=3, to_stay_on_time=2, disordered=1)
    assert measures.num_lost_frames(cut) == 6
    cut.summary = pb.SessionSummary(num_skipped_frames=5)
    assert measures.num_lost_frames(cut) == 1
    assert max(map(abs, measures.av_offsets_ms(record(*frames[:3])))) < 1000 / 16_000
    # 7 frames came, none late; 2 were left out to stay on time.
    assert Figures.of([record(*frames[:3])]).num_left_out_frames == 2


def test_objective_names_what_is_broken() -> None:
    objective = Objective()
    assert objective.broken_by(Figures.of([record(*steady(240))])) == []
    uneven = [arrival(n * FRAME_S + (n % 2) * 0.06, n) for n in range(240)]
    broken = objective.broken_by(Figures.of([record(*uneven), record(error="AtCapacity")]))
    for text in ("jitter p99 60.0 ms", "50.00 % of the frames late", "1 of 2 sessions failed"):
        assert any(text in reason for reason in broken), broken


@pytest.mark.parametrize("capacity", [0, 1, 2, 3, 5, 8, 11, 16])
async def test_search_finds_the_capacity(capacity: int) -> None:
    tried = []

    async def measure(num_sessions: int) -> Figures:
        tried.append(num_sessions)
        records = [record(*steady(24)) for _ in range(num_sessions)]
        if num_sessions > capacity:
            records[0].error = "too many"
        return Figures.of(records)

    runs = await find_largest(measure, Objective(), max_sessions=16)
    assert largest(runs) == capacity
    assert len(tried) == len(set(tried)) <= 8


def test_talk_is_in_order_and_the_same_for_a_seed() -> None:
    style = TalkStyle(cut_share=0.5)
    spurts = talk(style, 60, seed=3)
    assert spurts == talk(style, 60, seed=3) != talk(style, 60, seed=4)
    ends = [0.0, *(s.stop_s for s in spurts)]
    assert all(s.start_s - end >= style.min_pause_s for s, end in zip(spurts, ends, strict=False))
    assert ends[-1] <= 60
    assert 0 < sum(s.is_cut for s in spurts) < len(spurts)


def test_voice_goes_on_without_a_gap() -> None:
    voice = Voice.made_up()
    pieces = b"".join(voice.piece(n * 0.02, (n + 1) * 0.02) for n in range(500))
    assert pieces == (voice.data * 2)[: len(pieces)]
    assert len(pieces) == 2 * 10 * 16_000
    assert voice.silence(1, 1.5) == bytes(16_000)
