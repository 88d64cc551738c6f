"""The figures of a load test: distributions over all its sessions, and what they must hold."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mirrorme_client.bench import measures
from mirrorme_client.bench.session_record import SessionRecord


@dataclass(frozen=True)
class Spread:
    """A distribution."""

    values: tuple[float, ...]

    @property
    def largest(self) -> float | None:
        """By magnitude; None of nothing."""
        return max(self.values, key=abs, default=None)

    def percentile(self, percent: float) -> float | None:
        """None of nothing."""
        return float(np.percentile(self.values, percent)) if self.values else None

    def as_dict(self) -> dict[str, float | int | None]:
        """For JSON."""
        points = {f"p{percent}": self.percentile(percent) for percent in (50, 95, 99)}
        named = {"num": len(self.values), **points, "largest": self.largest}
        return {name: round(v, 2) if v is not None else None for name, v in named.items()}


@dataclass(frozen=True)
class Figures:
    """What was measured of sessions that ran at once. Times in milliseconds."""

    num_sessions: int
    errors: tuple[str, ...]
    """Of the sessions that failed."""
    num_frames: int
    num_left_out_frames: int
    """To stay on time; those that interrupts left out are not counted."""
    num_lost_frames: int
    """Missing without a word of the server's, or out of order."""
    first_frame_ms: Spread
    """Beyond the algorithmic latency."""
    jitter_ms: Spread
    lateness_ms: Spread
    late_share: float
    """Frames that came later than a frame's duration after their time, or were left out."""
    barge_in_ms: Spread
    hold_ms: Spread
    """The last picture before an interrupt, shown on."""
    num_interrupts: int
    av_offset_ms: Spread
    drift_ms: Spread
    client_lag_ms: Spread
    """How late this client sent its speech: where it is large, the client is what is measured."""

    @classmethod
    def of(cls, records: Sequence[SessionRecord]) -> Figures:
        """Of sessions that have ended."""

        def spread(measure: Any) -> Spread:
            return Spread(tuple(value for record in records for value in measure(record)))

        latenesses = spread(measures.latenesses_ms)
        num_late = sum(
            lateness > 1000 / record.frame_rate
            for record in records
            for lateness in measures.latenesses_ms(record)
        )
        num_left_out = sum(measures.gaps(record).to_stay_on_time for record in records)
        num_due = len(latenesses.values) + num_left_out
        return cls(
            num_sessions=len(records),
            errors=tuple(record.error for record in records if record.error),
            num_frames=sum(a.num_frames for record in records for a in record.arrivals),
            num_left_out_frames=num_left_out,
            num_lost_frames=sum(map(measures.num_lost_frames, records)),
            first_frame_ms=spread(measures.first_frames_ms),
            jitter_ms=spread(measures.jitters_ms),
            lateness_ms=latenesses,
            late_share=(num_late + num_left_out) / max(1, num_due),
            barge_in_ms=spread(measures.barge_ins_ms),
            hold_ms=spread(measures.holds_ms),
            num_interrupts=sum(len(record.interrupts_s) for record in records),
            av_offset_ms=spread(measures.av_offsets_ms),
            drift_ms=spread(lambda record: [measures.drift_ms(record)]),
            client_lag_ms=spread(lambda record: [1000 * lag for lag in record.push_lags_s]),
        )

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        values["late_share"] = round(self.late_share, 5)
        values["errors"] = list(self.errors)
        return {n: v.as_dict() if isinstance(v, Spread) else v for n, v in values.items()}


@dataclass(frozen=True)
class Objective:
    """A service-level objective; times in milliseconds."""

    first_frame_p95_ms: float = 250.0
    """Beyond the algorithmic latency."""
    jitter_p99_ms: float = 20.0
    barge_in_p99_ms: float = 80.0
    av_offset_ms: float = 1000 / 24
    max_late_share: float = 0.005

    def broken_by(self, figures: Figures) -> list[str]:
        """What does not hold, in words; nothing where all does."""
        limits = (
            ("first frame p95", figures.first_frame_ms.percentile(95), self.first_frame_p95_ms),
            ("jitter p99", figures.jitter_ms.percentile(99), self.jitter_p99_ms),
            ("barge-in p99", figures.barge_in_ms.percentile(99), self.barge_in_p99_ms),
            ("A/V offset", figures.av_offset_ms.largest, self.av_offset_ms),
        )
        broken = [
            f"{name} {value:.1f} ms: want at most {limit:g} ms"
            for name, value, limit in limits
            if value is not None and abs(value) > limit
        ]
        if figures.late_share > self.max_late_share:
            broken.append(
                f"{100 * figures.late_share:.2f} % of the frames late or left out: want at most "
                f"{100 * self.max_late_share:g} %"
            )
        if figures.num_lost_frames:
            broken.append(f"{figures.num_lost_frames} frames lost")
        if figures.errors:
            number, total = len(figures.errors), figures.num_sessions
            broken.append(f"{number} of {total} sessions failed: {figures.errors[0]}")
        return broken
