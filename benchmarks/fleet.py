"""10,000 streams over a fleet: servers needed, sessions refused, and what breaks first.

Driven by service times. Those of a CPU server are measured (`benchmarks/results/triton.json`:
`demo`, one server on one core). Those of a GPU server were never measured: they are ASSUMED, given
as arguments, and named so in the results; run it again with your own. Writes
`benchmarks/results/fleet.json`.

    python benchmarks/fleet.py --gpu-fixed-ms 12 --gpu-row-ms 10 --gpu-max-batch 8
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from fleet_model import Fleet, Outage, Service, Tally
from session_load import Sessions, draw_sessions

RESULTS = Path(__file__).parent / "results"
STREAMS = 10_000
MEAN_SESSION_S = 420.0
OBJECTIVE = 0.005
"""Of all chunks, those that may be late."""
FRAMES_A_CHUNK = 8
RESTART_S = 60.0
# All but the youngest sessions are there when it is counted.
WARM_UP_S = 60.0
UNTIL_S = 180.0
BURST = 1.3


def main() -> None:
    """Sizes both fleets, plays what happens to them, and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gpu-fixed-ms", type=float, default=12.0, help="of a batch (assumed)")
    parser.add_argument("--gpu-row-ms", type=float, default=10.0, help="of a row (assumed)")
    parser.add_argument("--gpu-max-batch", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    assumed = Service(given.gpu_fixed_ms, given.gpu_row_ms, given.gpu_max_batch)
    measured = measured_cpu()
    document: dict[str, Any] = {
        "made_by": "benchmarks/fleet.py",
        "seed": given.seed,
        "streams": STREAMS,
        "mean_session_s": MEAN_SESSION_S,
        "objective_late_share": OBJECTIVE,
        "gpu_server": {
            "service_times": "ASSUMED: no GPU was measured",
            **study(assumed, given.seed),
        },
        "gpu_servers_needed_by_row_ms": {
            f"{row_ms:g}": servers_needed(
                Service(given.gpu_fixed_ms, row_ms, given.gpu_max_batch), given.seed
            )
            for row_ms in (5.0, 20.0)
        },
        "cpu_server": {
            "service_times": "measured: benchmarks/results/triton.json, demo, one core",
            "servers_needed": servers_needed(measured, given.seed),
            "service": asdict(measured),
        },
    }
    (RESULTS / "fleet.json").write_text(json.dumps(document, indent=2) + "\n")
    print(json.dumps(document, indent=2))


def measured_cpu() -> Service:
    """One Triton server on one core: a row costs the same in every batch there."""
    scaling = json.loads((RESULTS / "triton.json").read_text())["scaling"]
    return Service(0.0, FRAMES_A_CHUNK * 1000 / scaling["one_server_fps"], 8)


def study(service: Service, seed: int) -> dict[str, Any]:
    """The fleet that is needed, and what happens to it."""
    needed = servers_needed(service, seed)
    # A twentieth is out in a roll-out, and a fleet has failures.
    fleet = math.ceil(needed / 0.9)
    places = int(fleet * service.streams * 0.95)
    scenarios = {}
    for name, servers, allowed, factor, outages in _scenarios(fleet, places, seed):
        sessions = steady(seed, STREAMS * factor)
        tally = Fleet(servers, allowed, service, seed).run(sessions, outages, UNTIL_S, WARM_UP_S)
        scenarios[name] = {"servers": servers, "places": allowed, **asdict(tally)}
    return {
        "service": asdict(service),
        "streams_a_server_at_most": round(service.streams, 1),
        "servers_needed": needed,
        "servers_with_a_tenth_to_spare": fleet,
        "scenarios": scenarios,
    }


def _scenarios(
    fleet: int, places: int, seed: int
) -> Iterator[tuple[str, int, int, float, list[Outage]]]:
    """Name, servers, places, load over 10,000 streams, outages."""
    rng = np.random.default_rng(seed)
    unbounded = 10 * STREAMS
    yield "nothing happens", fleet, places, 1.0, []
    # So many failures in two minutes are far more than a fleet has.
    failures = [
        Outage(int(rng.integers(fleet)), at_s, at_s + RESTART_S)
        for at_s in rng.uniform(WARM_UP_S, UNTIL_S, 50)
    ]
    yield "50 servers fail", fleet, places, 1.0, failures
    parts = np.array_split(np.arange(fleet), 20)
    step_s = (UNTIL_S - WARM_UP_S) / 20
    rollout = [
        Outage(int(server), WARM_UP_S + part * step_s, WARM_UP_S + (part + 1) * step_s)
        for part, servers in enumerate(parts)
        for server in servers
    ]
    yield "roll-out, a twentieth at a time", fleet, places, 1.0, rollout
    zone = [Outage(server, 90.0, math.inf) for server in range(fleet // 3)]
    yield "a third of the servers is lost", fleet, places, 1.0, zone
    yield "30 % more sessions", fleet, places, BURST, []
    yield "30 % more sessions, no bound on sessions", fleet, unbounded, BURST, []


def servers_needed(service: Service, seed: int) -> int:
    """The smallest fleet that carries 10,000 streams within the objective, when nothing happens."""
    sessions = steady(seed, STREAMS)
    low = math.floor(STREAMS / service.streams * 0.9)
    high = math.ceil(STREAMS / service.streams * 1.6)
    while high - low > max(1, low // 200):
        middle = (low + high) // 2
        tally = Fleet(middle, 10 * STREAMS, service, seed).run(sessions, [], 40.0, 15.0)
        low, high = (low, middle) if _holds(tally) else (middle, high)
    return high


def _holds(tally: Tally) -> bool:
    return tally.late_share <= OBJECTIVE


def steady(seed: int, streams: float) -> Sessions:
    """Sessions as they are after hours: those that go on at time 0 begin then, with their rest."""
    before_s = 20 * MEAN_SESSION_S
    drawn = draw_sessions(
        seed, before_s + UNTIL_S, lambda t: np.full_like(t, streams), MEAN_SESSION_S
    )
    end_s = drawn.start_s + drawn.length_s - before_s
    start_s = np.maximum(drawn.start_s - before_s, 0.0)
    there = end_s > start_s
    return Sessions(start_s[there], (end_s - start_s)[there])


if __name__ == "__main__":
    main()
