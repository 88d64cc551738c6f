"""What sessions notice when one of two Triton servers is killed and comes back.

    python benchmarks/triton_failover.py --engines engines/repository/demo [--seconds 20]

A gateway, two servers, four sessions of bundled speech, raw frames. Once undisturbed; once more,
with SIGKILL for one server after a third of the frames, and its restart at once. Compares every
frame, times the gaps between a session's batches, counts the calls that the returned server gets.
Writes results/triton_failover.json, unless a frame was lost or changed, or other programs took the
cores. Takes one minute on a quiet machine, fifteen at most.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from gateway_process import Gateway, running_gateway
from machine import busy_cores, refuse_if_busy, write_results
from mirrorme_client import pcm_s16le, rgb24
from mirrorme_engines.manifest import Manifest
from stream import EXAMPLES, speech_pieces
from triton_process import Triton, model_repository, running_tritons

NUM_SESSIONS = 4
LIMIT_S = 900.0
RETURN_LIMIT_S = 60.0


@dataclass
class Watched:
    """What one session got, and when."""

    frames: list[bytes] = field(default_factory=list)
    indices: list[int] = field(default_factory=list)
    gaps_s: list[float] = field(default_factory=list)


def main() -> None:
    """Measures and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engines", type=Path, required=True, help="folder with manifest.json")
    parser.add_argument("--seconds", type=float, default=20.0, help="of speech a session")
    arguments = parser.parse_args()
    busy = busy_cores()
    with tempfile.TemporaryDirectory() as folder:
        models = model_repository(arguments.engines, Path(folder))
        measuring = asyncio.wait_for(measure(models, arguments.seconds, Path(folder)), LIMIT_S)
        figures = asyncio.run(measuring)
    for name, value in figures["failover"].items():
        print(f"{name:<42} {value}")
    failover = figures["failover"]
    if failover["frames_lost"] or failover["largest_difference"] > 1:
        sys.exit("not written: frames were lost or changed")
    refuse_if_busy(busy)
    print(f"written to {write_results('triton_failover', figures)}")


async def measure(models: Path, seconds: float, folder: Path) -> dict[str, dict[str, Any]]:
    """All figures, by group."""
    manifest = Manifest.load(models)
    with running_tritons(models, [None, None]) as servers:
        endpoints = ",".join(server.address for server in servers)
        flags = ("--platform", "triton", "--triton-endpoints", endpoints)
        async with running_gateway(models, folder / "gateway.log", *flags) as gateway:
            undisturbed = await run_sessions(gateway, seconds)
            disturbed = [Watched() for _ in range(NUM_SESSIONS)]
            running = asyncio.create_task(run_sessions(gateway, seconds, disturbed))
            total = sum(len(session.frames) for session in undisturbed)
            while sum(len(session.frames) for session in disturbed) < total / 3:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            await asyncio.to_thread(servers[0].kill)
            killed = time.monotonic()
            await asyncio.to_thread(servers[0].start)
            ready_s = time.monotonic() - killed
            await running
            denoiser = manifest.engine("denoiser").name
            back_s = await until_used(gateway, servers[0], denoiser, killed)
    return {
        "model": {"preset": manifest.preset, "trained": manifest.trained},
        "conditions": {
            "sessions": NUM_SESSIONS,
            "seconds": seconds,
            "load_average_1_min": round(os.getloadavg()[0], 2),
        },
        "failover": {
            **compare(undisturbed, disturbed),
            "restarted_server_ready_after_s": round(ready_s, 2),
            "restarted_server_has_calls_after_s": round(back_s, 2),
        },
    }


def compare(undisturbed: list[Watched], disturbed: list[Watched]) -> dict[str, Any]:
    """Frames lost and changed, and the longest gaps."""
    lost, largest = 0, 0
    for whole, other in zip(undisturbed, disturbed, strict=True):
        lost += abs(len(whole.frames) - len(other.frames))
        lost += sum(i != want for want, i in enumerate(other.indices))
        for a, b in zip(whole.frames, other.frames, strict=False):
            difference = np.frombuffer(a, np.uint8).astype(np.int16) - np.frombuffer(b, np.uint8)
            largest = max(largest, int(np.abs(difference).max()))
    return {
        "frames": sum(len(session.frames) for session in disturbed),
        "frames_lost": lost,
        "largest_difference": largest,
        "longest_gap_undisturbed_ms": longest_gap_ms(undisturbed),
        "longest_gap_ms": longest_gap_ms(disturbed),
    }


def longest_gap_ms(sessions: list[Watched]) -> float:
    """Between two batches of one session; before the first one it is the model's latency."""
    return round(1000 * max(max(session.gaps_s) for session in sessions), 1)


async def run_sessions(
    gateway: Gateway, seconds: float, watched: list[Watched] | None = None
) -> list[Watched]:
    """All sessions at once, each of its own seed."""
    watched = watched or [Watched() for _ in range(NUM_SESSIONS)]
    await asyncio.gather(
        *(run_session(gateway, seconds, seed, into) for seed, into in enumerate(watched))
    )
    return watched


async def run_session(gateway: Gateway, seconds: float, seed: int, into: Watched) -> None:
    """Speech is pushed as fast as it is taken, so frames come as fast as they are made."""
    session = gateway.client.animate(
        EXAMPLES / "portrait_1.png",
        audio=speech_pieces(seconds, piece_s=1.0),
        audio_format=pcm_s16le(16000),
        output=rgb24(),
        seed=seed,
    )
    last: float | None = None
    async with session:
        async for batch in session:
            now = time.monotonic()
            if last is not None:
                into.gaps_s.append(now - last)
            last = now
            into.indices += range(
                batch.first_frame_index, batch.first_frame_index + len(batch.frames)
            )
            into.frames += [frame.data for frame in batch.frames]


async def until_used(gateway: Gateway, server: Triton, model: str, killed: float) -> float:
    """Seconds from the kill until the restarted server has run a session's denoiser."""
    deadline = time.monotonic() + RETURN_LIMIT_S
    while server.counts(model)[0] <= 1:  # its warm-up
        if time.monotonic() > deadline:
            raise RuntimeError("the restarted server gets no calls")
        await run_sessions(gateway, 1.0)
    return time.monotonic() - killed


if __name__ == "__main__":
    main()
