"""Whether a gateway leaks or tires under hours of mixed load.

    python benchmarks/soak.py --engines engines/repository/demo [--minutes 60] [--triton]

Conversations with interrupts, and beside them a client that vanishes, never reads, sends garbage or
a damaged picture and half-closes early. Watches the gateway's memory, tasks, file descriptors,
threads and sessions. With --triton the engines run on two Triton servers, one of which is killed
and started again every few minutes. Writes results/soak.json, and ends with 1 if something leaked
or a session failed.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import gc
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from gateway_process import Gateway, running_gateway
from machine import write_results
from mirrorme.animate.v1 import animation_pb2 as pb
from mirrorme_client import jpeg
from mirrorme_client.bench import measures
from mirrorme_client.bench.caller import CallPlan
from mirrorme_client.bench.figures import Spread
from mirrorme_client.bench.session_record import SessionRecord
from mirrorme_client.bench.voice import Voice
from soak_load import SoakCounts, SoakLoad
from stream import EXAMPLES
from triton_process import Triton, model_repository, running_tritons

WARM_UP_S = 60.0
SAMPLE_S = 5.0
SETTLE_S = 30.0
CLOSE_S = 5.0
KILL_EVERY_S = 300.0
MAX_GROWTH = 0.02
MAX_SAMPLES_WRITTEN = 120


@dataclass(frozen=True)
class Sample:
    """The gateway at one moment."""

    minute: float
    rss_mib: float
    tasks: int
    file_descriptors: int
    threads: int
    sessions: int


def main() -> None:
    """Soaks, reports and judges."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engines", type=Path, required=True, help="folder with manifest.json")
    parser.add_argument("--minutes", type=float, default=60.0, help="how long; default 60")
    parser.add_argument("--talkers", type=int, default=2, help="conversations at once; default 2")
    parser.add_argument("--seed", type=int, default=0, help="of the load")
    parser.add_argument("--triton", action="store_true", help="on Triton servers that are killed")
    arguments = parser.parse_args()
    figures = asyncio.run(soak(arguments))
    for name, value in figures["soak"].items():
        print(f"{name:<26} {value}")
    print(f"written to {write_results('soak', figures)}")
    if figures["soak"]["broken"]:
        sys.exit(1)


async def soak(arguments: argparse.Namespace) -> dict[str, Any]:
    """All figures, by group."""
    records = Records()
    async with _gateway(arguments) as (gateway, killer):
        load = await _load(gateway, arguments)
        await load.run(min(WARM_UP_S, 6 * arguments.minutes), records.add)
        before = await settled(gateway)
        samples: list[Sample] = []
        watching = asyncio.create_task(_watch(gateway, samples))
        kills = asyncio.create_task(killer.run())
        await load.run(60 * arguments.minutes, records.add)
        watching.cancel()
        kills.cancel()
        await asyncio.wait([watching, kills])
        after = await settled(gateway)
    if kills.done() and not kills.cancelled() and (error := kills.exception()):
        raise error
    growth = second_half_growth(samples)
    broken = judge(before, after, growth, load.counts)
    return {
        "conditions": {
            "minutes": arguments.minutes,
            "talkers": arguments.talkers,
            "engines": arguments.engines.name,
            "on": "Triton" if arguments.triton else "ONNX Runtime",
            "triton_kills": killer.num_kills,
        },
        "soak": {
            "broken": broken,
            "second_half_growth": round(growth, 4),
            "rss_mib_most": max(sample.rss_mib for sample in samples),
            **{f"{name}_before": value for name, value in _counts(before).items()},
            **{f"{name}_after": value for name, value in _counts(after).items()},
            "conversations": load.counts.completed,
            "interrupts": load.counts.interrupts,
            "misbehaved": dict(load.counts.misbehaved),
            "frames": records.num_frames,
            "lost_frames": records.num_lost_frames,
            "failures": load.counts.failures[:20],
            "barge_in_ms": Spread(tuple(records.barge_ins_ms)).as_dict(),
            "drift_ms": Spread(tuple(records.drifts_ms)).as_dict(),
        },
        "samples": [dataclasses.asdict(sample) for sample in _thinned(samples)],
    }


def second_half_growth(samples: list[Sample]) -> float:
    """Memory at the end against the middle, by medians of a tenth of the time each."""
    part = max(1, len(samples) // 10)
    middle = samples[len(samples) // 2 :][:part]
    return median(s.rss_mib for s in samples[-part:]) / median(s.rss_mib for s in middle) - 1


def judge(before: Sample, after: Sample, growth: float, counts: SoakCounts) -> list[str]:
    """What leaked or failed, in words."""
    broken = [
        f"{name}: {was} before, {_counts(after)[name]} after"
        for name, was in _counts(before).items()
        if _counts(after)[name] > was
    ]
    if growth > MAX_GROWTH:
        broken.append(f"memory grew by {100 * growth:.1f} % in the second half")
    if after.sessions:
        broken.append(f"{after.sessions} sessions are left")
    if counts.failures:
        broken.append(f"{len(counts.failures)} failures, the first: {counts.failures[0]}")
    return broken


async def settled(gateway: Gateway) -> Sample:
    """The gateway once no session is left, or after a while."""
    gc.collect()  # connections of calls that are over, on this client's side
    stop_s = time.monotonic() + SETTLE_S
    while (await _sample(gateway, 0)).sessions and time.monotonic() < stop_s:  # noqa: ASYNC110
        await asyncio.sleep(1)
    await asyncio.sleep(CLOSE_S)
    return await _sample(gateway, 0)


class Records:
    """What conversations showed, without all their frames."""

    def __init__(self) -> None:
        self.num_frames = 0
        self.num_lost_frames = 0
        self.barge_ins_ms: list[float] = []
        self.drifts_ms: list[float] = []

    def add(self, record: SessionRecord) -> None:
        """Takes what is wanted of a conversation."""
        self.num_frames += sum(arrival.num_frames for arrival in record.arrivals)
        self.num_lost_frames += measures.num_lost_frames(record)
        self.barge_ins_ms += measures.barge_ins_ms(record)
        self.drifts_ms.append(measures.drift_ms(record))


class Killer:
    """Kills one Triton server after the other and starts it again; none: does nothing."""

    def __init__(self, servers: list[Triton]) -> None:
        self._servers = servers
        self.num_kills = 0

    async def run(self) -> None:
        """Until cancelled."""
        while self._servers:
            for server in self._servers:
                await asyncio.sleep(KILL_EVERY_S)
                await asyncio.to_thread(server.kill)
                self.num_kills += 1
                await asyncio.to_thread(server.start)


@asynccontextmanager
async def _gateway(arguments: argparse.Namespace) -> AsyncIterator[tuple[Gateway, Killer]]:
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        engines, servers = arguments.engines, []
        flags = ["--max-sessions", str(arguments.talkers + 4)]
        if arguments.triton:
            engines = model_repository(engines, folder)
            servers = stack.enter_context(running_tritons(engines, [None, None]))
            endpoints = ",".join(server.address for server in servers)
            flags += ["--platform", "triton", "--triton-endpoints", endpoints]
        running = running_gateway(engines, folder / "gateway.log", *flags)
        yield await stack.enter_async_context(running), Killer(servers)


async def _load(gateway: Gateway, arguments: argparse.Namespace) -> SoakLoad:
    capabilities = await gateway.client.capabilities()
    is_paced = pb.PACING_REAL_TIME in capabilities.pacings
    picture = EXAMPLES / "portrait_1.png"
    registered = await gateway.client.register_portrait(picture)
    plan = CallPlan(
        portrait=registered.portrait,
        voice=Voice.of_file(EXAMPLES / "speech.wav"),
        talk=(),
        seconds=0,
        output=jpeg(),
        pacing=pb.PACING_REAL_TIME if is_paced else pb.PACING_AS_FAST_AS_POSSIBLE,
    )
    return SoakLoad(
        gateway.client,
        plan,
        await asyncio.to_thread(picture.read_bytes),
        num_talkers=arguments.talkers,
        seed=arguments.seed,
    )


async def _watch(gateway: Gateway, samples: list[Sample]) -> None:
    start_s = time.monotonic()
    while True:
        samples.append(await _sample(gateway, (time.monotonic() - start_s) / 60))
        await asyncio.sleep(SAMPLE_S)


async def _sample(gateway: Gateway, minute: float) -> Sample:
    metrics = await asyncio.to_thread(gateway.metrics)
    return Sample(
        minute=round(minute, 2),
        rss_mib=round(gateway.rss_mib, 1),
        tasks=int(metrics["mirrorme_tasks"]),
        file_descriptors=gateway.process.num_fds(),
        threads=gateway.process.num_threads(),
        sessions=int(metrics["mirrorme_sessions_active"]),
    )


def _counts(sample: Sample) -> dict[str, int]:
    return {"tasks": sample.tasks, "file_descriptors": sample.file_descriptors}


def _thinned(samples: list[Sample]) -> list[Sample]:
    return samples[:: len(samples) // MAX_SAMPLES_WRITTEN + 1]


if __name__ == "__main__":
    main()
