"""Whether live sessions hold their bars: pacing, barge-in, transitions, refusal over capacity.

    python benchmarks/live.py --engines engines/repository/demo [--minutes 10] [--interrupts 200]
        [--only pacing barge_in transitions refusal]

One gateway and its one client on the same cores, of which other programs must leave most. Says
which bars hold, and writes results/live.json. 25 minutes with the defaults.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any, TypeAlias

import numpy as np
from gateway_process import Gateway, running_gateway
from machine import StolenTime, busy_cores, refuse_if_busy
from mirrorme.animate.v1 import animation_pb2 as pb
from mirrorme_client import jpeg, rgb24
from mirrorme_client.bench.caller import Caller, CallPlan
from mirrorme_client.bench.figures import Figures, Spread
from mirrorme_client.bench.load import run_load
from mirrorme_client.bench.talk import TalkStyle, talk
from mirrorme_client.bench.voice import Voice
from mirrorme_client.errors import AtCapacity
from stream import EXAMPLES, report

Measured: TypeAlias = dict[str, Any]

WARM_UP_S = 5.0
NUM_REFUSALS = 50
TRANSITIONS_S = 60.0
# Speech waits in every queue when it is cut off, as with a speech synthesiser.
AHEAD_S = 2.0
CUTS = TalkStyle(min_spurt_s=0.8, max_spurt_s=2.0, min_pause_s=0.6, max_pause_s=1.2, cut_share=1.0)
SECONDS_A_CUT = 2.3


def main() -> None:
    """Measures and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engines", type=Path, required=True, help="folder with manifest.json")
    parser.add_argument("--minutes", type=float, default=10.0, help="of the pacing; default 10")
    parser.add_argument("--interrupts", type=int, default=200, help="default 200")
    parser.add_argument(
        "--only", nargs="+", choices=list(PARTS), default=list(PARTS), help="parts to measure"
    )
    arguments = parser.parse_args()
    refuse_if_busy(busy_cores())
    figures = asyncio.run(measure(arguments))
    figures["bars"] = {bar.name: bar.verdict(figures) for bar in BARS if bar.part in figures}
    report("live", figures)


async def measure(arguments: argparse.Namespace) -> dict[str, Measured]:
    """All figures, by group."""
    figures: dict[str, Measured] = {}
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "gateway.log"
        async with running_gateway(arguments.engines, log, "--max-sessions", "1") as gateway:
            model = (await gateway.client.capabilities()).presets[0].model
            figures["model"] = {"preset": model.preset, "trained": model.trained}
            plan = await _plan(gateway)
            await run_load(gateway.client, replace(plan, seconds=WARM_UP_S), TalkStyle(), 1)
            for part in arguments.only:
                print(f"{datetime.now():%H:%M:%S} {part}", flush=True)
                stolen = StolenTime()
                figures[part] = await PARTS[part](gateway, plan, arguments)
                figures[part]["stolen_share"] = round(stolen.share(), 4)
    return figures


async def measure_pacing(
    gateway: Gateway, plan: CallPlan, arguments: argparse.Namespace
) -> Measured:
    """One session of spurts and pauses, without interrupts."""
    plan = replace(plan, seconds=60 * arguments.minutes)
    cpu_s = gateway.cpu_s
    figures = await run_load(gateway.client, plan, TalkStyle(cut_share=0.0), 1)
    return {
        "minutes": arguments.minutes,
        **_checked(figures),
        "frames": figures.num_frames,
        "jitter_ms": figures.jitter_ms.as_dict(),
        "late_share": round(figures.late_share, 5),
        "lateness_ms": figures.lateness_ms.as_dict(),
        "av_offset_largest_ms": _rounded(figures.av_offset_ms.largest),
        "drift_ms": _rounded(figures.drift_ms.largest),
        "first_frame_beyond_algorithmic_ms": figures.first_frame_ms.as_dict(),
        "gateway_cores": round((gateway.cpu_s - cpu_s) / plan.seconds, 2),
    }


async def measure_barge_in(
    gateway: Gateway, plan: CallPlan, arguments: argparse.Namespace
) -> Measured:
    """One session whose spurts all end by an interrupt, at moments drawn at random."""
    plan = replace(plan, seconds=SECONDS_A_CUT * arguments.interrupts, max_ahead_s=AHEAD_S)
    before = await asyncio.to_thread(gateway.metrics)
    figures = await run_load(gateway.client, plan, CUTS, 1)
    after = await asyncio.to_thread(gateway.metrics)
    return {
        **_checked(figures),
        "interrupts": figures.num_interrupts,
        "speech_ahead_s": AHEAD_S,
        "at_the_client_ms": figures.barge_in_ms.as_dict(),
        "picture_held_ms": figures.hold_ms.as_dict(),
        "in_the_gateway_p99_at_most_ms": _histogram_p99_ms(before, after),
    }


async def measure_transitions(
    gateway: Gateway, plan: CallPlan, arguments: argparse.Namespace
) -> Measured:
    """How much the picture changes from frame to frame where speech begins and where it ends,
    against the frames within speech and within idle motion."""
    differences: dict[str, list[float]] = {"onset": [], "end": [], "ordinary": []}
    last: tuple[int, np.ndarray, bool] | None = None

    def see(batch: pb.FrameBatch) -> None:
        nonlocal last
        for index, frame in enumerate(batch.frames, batch.first_frame_index):
            pixels = np.frombuffer(frame.data, np.uint8).astype(np.int16)
            if last is not None and index == last[0] + 1:
                kind = (
                    "ordinary" if last[2] == batch.is_idle else "end" if batch.is_idle else "onset"
                )
                differences[kind].append(float(np.abs(pixels - last[1]).mean()))
            last = index, pixels, batch.is_idle

    spurts = tuple(talk(TalkStyle(cut_share=0.0), TRANSITIONS_S, seed=1))
    plan = replace(plan, seconds=TRANSITIONS_S, output=rgb24(), talk=spurts)
    caller = Caller(gateway.client, plan, on_batch=see)
    record = await caller.run()
    ordinary = Spread(tuple(differences["ordinary"]))
    result: Measured = {"unit": "mean absolute difference of two frames, of 255"}
    result |= _checked(Figures.of([record]))
    for name, values in differences.items():
        spread = Spread(tuple(values))
        result[name] = spread.as_dict()
        p95, ordinary_p95 = spread.percentile(95), ordinary.percentile(95)
        if name != "ordinary" and p95 is not None and ordinary_p95:
            result[f"{name}_p95_against_ordinary_p95"] = round(p95 / ordinary_p95, 2)
    return result


async def measure_refusal(
    gateway: Gateway, plan: CallPlan, arguments: argparse.Namespace
) -> Measured:
    """Sessions over the capacity, while the one that runs is watched."""
    seconds = 0.2 * NUM_REFUSALS + WARM_UP_S
    running = asyncio.create_task(
        run_load(gateway.client, replace(plan, seconds=seconds), TalkStyle(cut_share=0.0), 1)
    )
    await asyncio.sleep(WARM_UP_S / 2)
    times_ms: list[float] = []
    num_with_delay = 0
    for _ in range(NUM_REFUSALS):
        start_s = time.perf_counter()
        try:
            async with gateway.client.animate(
                plan.portrait, audio_format=plan.voice.format, pacing=plan.pacing
            ):
                raise RuntimeError("a session over the capacity was let in")
        except AtCapacity as refusal:
            times_ms.append(1000 * (time.perf_counter() - start_s))
            num_with_delay += refusal.retry_delay_s is not None
        await asyncio.sleep(0.1)
    figures = await running
    return {
        **_checked(figures),
        "refusals": len(times_ms),
        "with_retry_info": num_with_delay,
        "refused_after_p50_ms": round(median(times_ms), 1),
        "refused_after_largest_ms": round(max(times_ms), 1),
        "running_jitter_ms": figures.jitter_ms.as_dict(),
        "running_late_share": round(figures.late_share, 5),
    }


Part: TypeAlias = Callable[[Gateway, CallPlan, argparse.Namespace], Awaitable[Measured]]
PARTS: dict[str, Part] = {
    "pacing": measure_pacing,
    "barge_in": measure_barge_in,
    "transitions": measure_transitions,
    "refusal": measure_refusal,
}


@dataclass(frozen=True)
class Bar:
    """What a figure must not be above."""

    name: str
    part: str
    path: tuple[str, ...]
    """Of the figure within its part."""
    limit: float

    def verdict(self, figures: dict[str, Measured]) -> str:
        """In words; a figure that is missing does not hold."""
        value: Any = figures[self.part]
        for key in self.path:
            value = value.get(key) if isinstance(value, dict) else None
        holds = value is not None and abs(value) <= self.limit
        return f"{value} of at most {self.limit:g}: {'holds' if holds else 'DOES NOT HOLD'}"


FRAME_MS = 1000 / 24
BARS = (
    Bar("jitter p99, ms", "pacing", ("jitter_ms", "p99"), 20),
    Bar("late frames, share", "pacing", ("late_share",), 0.005),
    Bar("A/V offset, ms", "pacing", ("av_offset_largest_ms",), FRAME_MS),
    Bar("drift, ms", "pacing", ("drift_ms",), 2),
    Bar("first frame p95, ms", "pacing", ("first_frame_beyond_algorithmic_ms", "p95"), 250),
    Bar("barge-in p99, ms", "barge_in", ("at_the_client_ms", "p99"), 80),
    Bar("picture held, ms", "barge_in", ("picture_held_ms", "largest"), 400),
    Bar("onset, times ordinary", "transitions", ("onset_p95_against_ordinary_p95",), 1.2),
    Bar("end, times ordinary", "transitions", ("end_p95_against_ordinary_p95",), 1.2),
    Bar("refusal, ms", "refusal", ("refused_after_largest_ms",), 50),
    Bar("jitter p99 beside it, ms", "refusal", ("running_jitter_ms", "p99"), 20),
    Bar("late beside it, share", "refusal", ("running_late_share",), 0.005),
)


async def _plan(gateway: Gateway) -> CallPlan:
    registered = await gateway.client.register_portrait(EXAMPLES / "portrait_1.png")
    return CallPlan(
        portrait=registered.portrait,
        voice=Voice.of_file(EXAMPLES / "speech.wav"),
        talk=(),
        seconds=0,
        output=jpeg(),
        pacing=pb.PACING_REAL_TIME,
    )


def _checked(figures: Figures) -> Measured:
    """Ends the measurement if a session failed: its figures would say nothing."""
    if figures.errors:
        raise RuntimeError(f"a session failed: {figures.errors[0]}")
    return {
        "left_out_frames": figures.num_left_out_frames,
        "lost_frames": figures.num_lost_frames,
    }


def _histogram_p99_ms(before: dict[str, float], after: dict[str, float]) -> float | None:
    """The smallest bucket of `mirrorme_barge_in_seconds` that 99 % are in; None: it is beyond."""
    name = "mirrorme_barge_in_seconds"
    total = after[f"{name}_count"] - before[f"{name}_count"]
    for key, value in after.items():
        if key.startswith(f"{name}_bucket") and value - before[key] >= 0.99 * total:
            limit = key.partition('le="')[2].partition('"')[0]
            return None if limit == "+Inf" else 1000 * float(limit)
    return None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


if __name__ == "__main__":
    main()
