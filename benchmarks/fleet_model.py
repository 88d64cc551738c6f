"""A fleet of servers under live streams, stepped through time: sessions, calls, batches, outages.

Sessions come and go one by one. Each asks for a chunk of 8 frames once every third of a second and
must have it before the next. A server runs one batch at a time, of the calls that wait for it,
oldest first; calls go to the server with the least work before it. Time has steps of 10.4 ms; a
batch that ends within a step is followed from its end on.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from session_load import Sessions

CHUNK_S = 8 / 24
PHASES = 32
STEP_S = CHUNK_S / PHASES
# How far back calls that still wait are known by their age; older ones are late anyway.
_HISTORY = 4 * PHASES


@dataclass(frozen=True)
class Service:
    """What a batch takes on one server."""

    fixed_ms: float
    row_ms: float
    max_batch: int

    def batch_s(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """One run of so many rows each."""
        return (self.fixed_ms + self.row_ms * rows) / 1000

    @property
    def streams(self) -> float:
        """Streams in real time that one server carries with full batches, and nothing to spare."""
        return self.max_batch * CHUNK_S / ((self.fixed_ms + self.row_ms * self.max_batch) / 1000)


@dataclass(frozen=True)
class Outage:
    """One server is gone for a while; calls that wait for it are made again elsewhere."""

    server: int
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Tally:
    """What came of it, from `warm_up_s` on."""

    sessions: int
    refused: int
    peak_streams: int
    chunks: int
    late: int
    late_share: float
    worst_minute_late_share: float
    mean_rows_a_batch: float
    busy_share: float


class Fleet:
    """Owns the queues of all servers. One use: `run`."""

    def __init__(self, servers: int, places: int, service: Service, seed: int) -> None:
        self._service = service
        self._places = places
        self._rng = np.random.default_rng(seed)
        self._up = np.ones(servers, bool)
        self._waiting = np.zeros(servers, np.int64)
        self._busy_until_s = np.zeros(servers)
        # Calls given to each server until each of the last steps, and all that were taken up.
        self._given = np.zeros((_HISTORY, servers), np.int64)
        self._total = np.zeros(servers, np.int64)
        self._taken = np.zeros(servers, np.int64)
        self._batches = self._rows = 0
        self._busy_s = 0.0

    def run(
        self, sessions: Sessions, outages: list[Outage], until_s: float, warm_up_s: float
    ) -> Tally:
        """Plays all of it; what is counted begins after the warm-up."""
        due = np.zeros(PHASES, np.int64)
        ends: list[tuple[float, int]] = []
        changes = sorted(
            [(o.start_s, o.server, False) for o in outages]
            + [(o.end_s, o.server, True) for o in outages]
        )
        arrival = change = arrived = refused = peak = moved = 0
        by_minute: dict[int, NDArray[np.int64]] = {}
        for step in range(int(until_s / STEP_S)):
            now_s = step * STEP_S
            counted = now_s >= warm_up_s
            while ends and ends[0][0] <= now_s:
                due[heapq.heappop(ends)[1]] -= 1
            while arrival < len(sessions.start_s) and sessions.start_s[arrival] <= now_s:
                arrived += counted
                if due.sum() >= self._places:
                    refused += counted
                else:
                    phase = int(self._rng.integers(PHASES))
                    due[phase] += 1
                    heapq.heappush(ends, (now_s + sessions.length_s[arrival], phase))
                arrival += 1
            while change < len(changes) and changes[change][0] <= now_s:
                moved += self._switch(changes[change][1], changes[change][2])
                change += 1
            calls = int(due[step % PHASES])
            self._give(calls + moved, step)
            moved = 0
            served, late = self._start_batches(now_s, step)
            if counted:
                minute = by_minute.setdefault(int(now_s // 60), np.zeros(2, np.int64))
                minute += (served, late)
                peak = max(peak, int(due.sum()))
        # What still waits and should have been there long since.
        overdue = self._given[(int(until_s / STEP_S) - 1 - PHASES) % _HISTORY] - self._taken
        by_minute[max(by_minute)] += int(np.maximum(overdue, 0).sum())
        chunks, late = (int(n) for n in sum(by_minute.values(), np.zeros(2, np.int64)))
        return Tally(
            sessions=arrived,
            refused=refused,
            peak_streams=peak,
            chunks=chunks,
            late=late,
            late_share=round(late / max(chunks, 1), 5),
            worst_minute_late_share=round(
                max(float(n[1] / max(n[0], 1)) for n in by_minute.values()), 5
            ),
            mean_rows_a_batch=round(self._rows / max(self._batches, 1), 2),
            busy_share=round(self._busy_s / (until_s * len(self._up)), 3),
        )

    def _switch(self, server: int, is_up: bool) -> int:
        """Takes a server out or in; returns the calls that waited for it."""
        self._up[server] = is_up
        left = int(self._waiting[server])
        self._waiting[server] = 0
        self._taken[server] = self._total[server]
        self._busy_until_s[server] = 0.0
        return left

    def _give(self, calls: int, step: int) -> None:
        up = np.flatnonzero(self._up)
        if calls and len(up):
            # One after another to the least loaded, all at once: fill up from the lowest.
            order = up[np.argsort(self._waiting[up] + 1e-3 * self._busy_until_s[up], kind="stable")]
            levels = self._waiting[order]
            room = np.cumsum(np.arange(1, len(order)) * np.diff(levels))
            filled = int(np.searchsorted(room, calls, side="right")) + 1
            chosen = order[:filled]
            top, extra = divmod(calls + int(levels[:filled].sum()), filled)
            target = np.full(filled, top)
            target[:extra] += 1
            given = np.maximum(target - self._waiting[chosen], 0)
            self._waiting[chosen] += given
            self._total[chosen] += given
        self._given[step % _HISTORY] = self._total

    def _start_batches(self, now_s: float, step: int) -> tuple[int, int]:
        """Starts a batch where a server is free and calls wait; returns all, and late ones."""
        ready = np.flatnonzero(
            self._up & (self._busy_until_s <= now_s + STEP_S) & (self._waiting > 0)
        )
        if not len(ready):
            return 0, 0
        rows = np.minimum(self._waiting[ready], self._service.max_batch)
        run_s = self._service.batch_s(rows)
        end_s = np.maximum(self._busy_until_s[ready], now_s) + run_s
        # Calls that came so long ago that they will be late.
        oldest = np.ceil((end_s - CHUNK_S) / STEP_S).astype(np.int64) - 1
        reach = np.clip(oldest, step - _HISTORY + 1, step)
        due_before = self._given[reach % _HISTORY, ready]
        late = np.clip(due_before - self._taken[ready], 0, rows)
        late[oldest < 0] = 0
        self._busy_until_s[ready] = end_s
        self._waiting[ready] -= rows
        self._taken[ready] += rows
        self._batches += len(ready)
        self._rows += int(rows.sum())
        self._busy_s += float(run_s.sum())
        return int(rows.sum()), int(late.sum())
