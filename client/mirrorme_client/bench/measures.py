"""What a session's record says of its quality, in milliseconds. Pure functions of the record."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from statistics import median

from mirrorme_client.bench.session_record import Arrival, SessionRecord


def first_frames_ms(record: SessionRecord) -> list[float]:
    """First sample of an utterance sent, to the first frame that it drives, beyond the
    algorithmic latency. Utterances of which no frame came are left out."""
    latencies = []
    for number, onset_s in enumerate(record.onsets_s, 1):
        first = next((a for a in record.arrivals if a.utterance == number and not a.is_idle), None)
        if first is not None:
            latencies.append(1000 * (first.at_s - onset_s - record.algorithmic_latency_s))
    return latencies


def jitters_ms(record: SessionRecord) -> list[float]:
    """How much the time between two frames differs from their distance in the video; where the
    server does not pace, the first frames of two chunks."""
    jitters = []
    for before, after in pairwise(_marks(record)):
        distance_s = (after.first_frame - before.first_frame) / record.frame_rate
        jitters.append(1000 * abs(after.at_s - before.at_s - float(distance_s)))
    return jitters


def latenesses_ms(record: SessionRecord) -> list[float]:
    """Of each frame: its arrival after its time on a clock that starts with the first frame."""
    latenesses = []
    for arrival in record.arrivals:
        for index in range(arrival.num_frames):
            frame_s = float(Fraction(index) / record.frame_rate)
            latenesses.append(1000 * (_lateness_s(record, arrival) - frame_s))
    return latenesses


def drift_ms(record: SessionRecord) -> float:
    """How much later the last tenth of the frames came than the first, by their medians."""
    latenesses = [_lateness_s(record, arrival) for arrival in _marks(record)]
    part = len(latenesses) // 10
    if not part:
        return 0.0
    return 1000 * (median(latenesses[-part:]) - median(latenesses[:part]))


def barge_ins_ms(record: SessionRecord) -> list[float]:
    """Interrupt sent, to the last frame of earlier speech received; 0 where none came after it.
    Interrupts of which no frame tells, because the session ended before, are left out."""
    times = []
    last_epoch = record.arrivals[-1].epoch if record.arrivals else 0
    for epoch, sent_s in enumerate(record.interrupts_s, 1):
        if epoch > last_epoch:
            break
        stale = [a.at_s for a in record.arrivals if a.epoch < epoch and not a.is_idle]
        times.append(1000 * max(0.0, max(stale, default=sent_s) - sent_s))
    return times


def holds_ms(record: SessionRecord) -> list[float]:
    """How long the last picture before each interrupt was shown on, until idle motion was there.
    Interrupts after which only that picture came are left out."""
    holds = []
    for number, (before, after) in enumerate(pairwise(record.arrivals), 1):
        if after.epoch > before.epoch:
            later = record.arrivals[number:]
            fresh = next((a for a in later if a.picture != before.picture), None)
            if fresh is not None:
                num_held = fresh.first_frame - before.first_frame - before.num_frames
                holds.append(float(1000 * num_held / record.frame_rate))
    return holds


def av_offsets_ms(record: SessionRecord) -> list[float]:
    """Of each batch: the audio received with it and before, against the video to its end; and the
    sample that the server names, against the frame's place in the video. Positive: audio is
    longer. Audio of frames that were left out comes with the next batch."""
    offsets = []
    num_samples = 0
    for arrival in record.arrivals:
        first = record.arrivals[0]
        start_s = float((arrival.first_frame - first.first_frame) / record.frame_rate)
        stop_s = start_s + float(arrival.num_frames / record.frame_rate)
        num_samples += arrival.num_samples
        offsets.append(1000 * (num_samples / record.sample_rate_hz - stop_s))
        named_s = (arrival.first_sample - first.first_sample) / record.sample_rate_hz
        offsets.append(1000 * (named_s - start_s))
    return offsets


@dataclass(frozen=True)
class Gaps:
    """Frames between the first and the last received that did not come."""

    by_interrupts: int = 0
    """Where the epoch rises: the last picture holds until idle motion is there."""
    to_stay_on_time: int = 0
    disordered: int = 0
    """Frames that came again, or before earlier ones: never right."""


def gaps(record: SessionRecord) -> Gaps:
    """What is missing in a session's frames."""
    by_interrupts = to_stay_on_time = disordered = 0
    for before, after in pairwise(record.arrivals):
        gap = after.first_frame - before.first_frame - before.num_frames
        if gap < 0:
            disordered -= gap
        elif after.epoch > before.epoch:
            by_interrupts += gap
        else:
            to_stay_on_time += gap
    return Gaps(by_interrupts, to_stay_on_time, disordered)


def num_lost_frames(record: SessionRecord) -> int:
    """Frames that did not come though the server says that it left none, or fewer, out."""
    missing = gaps(record)
    said = record.summary.num_skipped_frames if record.summary is not None else 0
    return max(0, missing.by_interrupts + missing.to_stay_on_time - said) + missing.disordered


def _lateness_s(record: SessionRecord, arrival: Arrival) -> float:
    """Of a batch's first frame, against the session's first frame."""
    first = record.arrivals[0]
    distance = (arrival.first_frame - first.first_frame) / record.frame_rate
    return arrival.at_s - first.at_s - float(distance)


def _marks(record: SessionRecord) -> Iterator[Arrival]:
    """The batches whose times count: all where the server paces, else those that begin a chunk."""
    for arrival in record.arrivals:
        if record.is_paced or arrival.first_frame % record.chunk_frames == 0:
            yield arrival
