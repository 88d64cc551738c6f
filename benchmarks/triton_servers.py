"""What engines on Triton servers cost against engines in this process, and how they scale.

    python benchmarks/triton_servers.py --engines engines/repository/demo [--chunks 40]

Measures the engines of a chunk (audio encoder, denoiser, decoder), each session's one after
another, without a gateway: CPU time a frame, client and servers together; four sessions at once
against one after another, and how many calls share a run; one server against two, each pinned to a
core of its own, with this client on the same cores. Writes results/triton.json.

The figures hold for ONNX Runtime in Triton's Python backend on the CPU, not for GPUs.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from machine import write_results
from mirrorme_engines.engine import EngineSet
from mirrorme_engines.manifest import Manifest
from mirrorme_engines.open_engines import open_engines
from mirrorme_engines.triton_engine import open_triton_engines
from mirrorme_engines.triton_options import TritonOptions
from mirrorme_export.precision_choice import make_inputs
from triton_process import Triton, model_repository, running_tritons

NUM_SESSIONS = 4
NUM_REPEATS = 3
WARM_UP_CHUNKS = 3


@dataclass(frozen=True)
class Run:
    """One measurement."""

    wall_s: float
    cpu_s: float
    num_frames: int

    @property
    def fps(self) -> float:
        """Frames a second of all sessions together."""
        return self.num_frames / self.wall_s

    @property
    def cpu_ms_per_frame(self) -> float:
        """CPU time of everything that took part."""
        return 1000 * self.cpu_s / self.num_frames


def main() -> None:
    """Measures and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engines", type=Path, required=True, help="folder with manifest.json")
    parser.add_argument("--chunks", type=int, default=40, help="chunks a session and measurement")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        models = model_repository(arguments.engines, Path(folder))
        figures = asyncio.run(measure(models, arguments.chunks))
    for group, values in figures.items():
        for name, value in values.items():
            print(f"{group:>10}  {name:<38} {value}")
    print(f"written to {write_results('triton', figures)}")


async def measure(models: Path, num_chunks: int) -> dict[str, dict[str, Any]]:
    """All figures, by group."""
    manifest = Manifest.load(models)
    with running_tritons(models, [None]) as servers:
        overhead = await measure_overhead(models, servers, num_chunks)
        batching = await measure_batching(models, servers, num_chunks)
    return {
        "model": {"preset": manifest.preset, "trained": manifest.trained},
        "conditions": {
            "chunks": num_chunks,
            "repeats": NUM_REPEATS,
            "load_average_1_min": round(os.getloadavg()[0], 2),
        },
        "overhead": overhead,
        "batching": batching,
        "scaling": await measure_scaling(models, num_chunks),
    }


async def measure_overhead(models: Path, servers: list[Triton], num_chunks: int) -> dict[str, Any]:
    """CPU time a frame of one session, here and on a server, in turns."""
    here: list[float] = []
    there: list[float] = []
    local = await open_engines(models)
    remote = await open_tritons(models, servers)
    for _ in range(NUM_REPEATS):
        here.append((await run_sessions(local, 1, num_chunks, [])).cpu_ms_per_frame)
        there.append((await run_sessions(remote, 1, num_chunks, servers)).cpu_ms_per_frame)
    await local.close()
    await remote.close()
    in_process, triton = statistics.median(here), statistics.median(there)
    return {
        "in_process_cpu_ms_per_frame": round(in_process, 3),
        "triton_cpu_ms_per_frame": round(triton, 3),
        "ratio": round(triton / in_process, 3),
        "in_process_all": [round(value, 3) for value in here],
        "triton_all": [round(value, 3) for value in there],
    }


async def measure_batching(models: Path, servers: list[Triton], num_chunks: int) -> dict[str, Any]:
    """Four sessions at once against the same four one after another."""
    engines = await open_tritons(models, servers)
    alone: list[float] = []
    together: list[float] = []
    before = servers[0].counts(engines.denoiser.spec.name)
    after = before
    for _ in range(NUM_REPEATS):
        alone.append((await run_sessions(engines, 1, num_chunks, servers)).fps)
        before = servers[0].counts(engines.denoiser.spec.name)
        together.append((await run_sessions(engines, NUM_SESSIONS, num_chunks, servers)).fps)
        after = servers[0].counts(engines.denoiser.spec.name)
    await engines.close()
    one, four = statistics.median(alone), statistics.median(together)
    return {
        "sessions": NUM_SESSIONS,
        "one_after_another_fps": round(one, 2),
        "at_once_fps": round(four, 2),
        "ratio": round(four / one, 3),
        "denoiser_inferences": after[0] - before[0],
        "denoiser_executions": after[1] - before[1],
    }


async def measure_scaling(models: Path, num_chunks: int) -> dict[str, Any]:
    """Frames a second of four sessions on one pinned server and on two."""
    cores = sorted(os.sched_getaffinity(0))[:2]
    if len(cores) < 2:
        return {"skipped": "one core"}
    fps: dict[int, list[float]] = {1: [], 2: []}
    with running_tritons(models, list(cores)) as servers:
        for _ in range(NUM_REPEATS):
            for count, values in fps.items():
                engines = await open_tritons(models, servers[:count])
                run = await run_sessions(engines, NUM_SESSIONS, num_chunks, servers[:count])
                values.append(run.fps)
                await engines.close()
    one, two = statistics.median(fps[1]), statistics.median(fps[2])
    return {
        "sessions": NUM_SESSIONS,
        "one_server_fps": round(one, 2),
        "two_servers_fps": round(two, 2),
        "ratio": round(two / one, 3),
        "one_server_all": [round(value, 2) for value in fps[1]],
        "two_servers_all": [round(value, 2) for value in fps[2]],
    }


async def open_tritons(models: Path, servers: list[Triton]) -> EngineSet:
    """Engines on all of the servers."""
    return await open_triton_engines(
        models, TritonOptions(tuple(server.address for server in servers), default_timeout_s=60)
    )


async def run_sessions(
    engines: EngineSet, num_sessions: int, num_chunks: int, servers: list[Triton]
) -> Run:
    """Runs sessions at once, after a warm-up that is not counted."""
    await asyncio.gather(*(session(engines, i, WARM_UP_CHUNKS) for i in range(num_sessions)))
    cpu_s, started = total_cpu_s(servers), time.perf_counter()
    await asyncio.gather(*(session(engines, i, num_chunks) for i in range(num_sessions)))
    wall_s = time.perf_counter() - started
    num_frames = num_sessions * num_chunks * engines.manifest.chunk_frames
    return Run(wall_s, total_cpu_s(servers) - cpu_s, num_frames)


def total_cpu_s(servers: list[Triton]) -> float:
    """CPU time so far, of this process and the servers."""
    return time.process_time() + sum(server.cpu_s for server in servers)


async def session(engines: EngineSet, seed: int, num_chunks: int) -> None:
    """The engine calls of a stream; each chunk's motion is the last chunk's latents."""
    manifest = engines.manifest
    audio_inputs = make_inputs(manifest, engines.audio_encoder.spec, 1, seed)
    inputs = make_inputs(manifest, engines.denoiser.spec, 1, seed)
    window = make_inputs(manifest, engines.decoder.spec, 1, seed)["latents"]
    num_motion, num_window = inputs["motion"].shape[1], window.shape[1]
    for _ in range(num_chunks):
        audio = await engines.audio_encoder.infer(audio_inputs)
        latents = (await engines.denoiser.infer({**inputs, **audio}))["latents"]
        window = np.concatenate([window, latents], axis=1)[:, -num_window:]
        inputs["motion"] = window[:, -num_motion:]
        await engines.decoder.infer({"latents": window})


if __name__ == "__main__":
    main()
