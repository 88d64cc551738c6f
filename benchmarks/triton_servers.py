"""What engines on Triton servers cost against engines in this process, and how they scale.

    python benchmarks/triton_servers.py --engines engines/repository/demo [--seconds 8]

Measures the engines of a chunk (audio encoder, denoiser, decoder), each session's one after
another, without a gateway: CPU time a frame, client and servers together, with tensors in messages
and through shared memory; four sessions at once against one after another, and how many calls
share a run; one server against two, each pinned to a core of its own, with this client on the same
cores. Writes results/triton.json, unless other programs took the cores before or after. Takes three
minutes.

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
from machine import busy_cores, refuse_if_busy, write_results
from mirrorme_engines.engine import EngineSet
from mirrorme_engines.manifest import Manifest
from mirrorme_engines.open_engines import open_engines
from mirrorme_engines.triton_engine import open_triton_engines
from mirrorme_engines.triton_options import TritonOptions
from mirrorme_export.precision_choice import make_inputs
from triton_process import Triton, model_repository, running_tritons

NUM_SESSIONS = 4
NUM_REPEATS = 3
WARM_UP_S = 1.0
CALL_TIMEOUT_S = 60.0
BARS = {"overhead": 1.15, "batching": 1.0, "scaling": 1.6}


@dataclass(frozen=True)
class Run:
    """One measurement."""

    wall_s: float
    client_cpu_s: float
    server_cpu_s: float
    num_frames: int

    @property
    def fps(self) -> float:
        """Frames a second of all sessions together."""
        return self.num_frames / self.wall_s

    @property
    def cpu_ms_per_frame(self) -> float:
        """CPU time of everything that took part."""
        return 1000 * (self.client_cpu_s + self.server_cpu_s) / self.num_frames

    @property
    def client_cpu_ms_per_frame(self) -> float:
        """Of that, this process's."""
        return 1000 * self.client_cpu_s / self.num_frames


def main() -> None:
    """Measures and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engines", type=Path, required=True, help="folder with manifest.json")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each of the 21 runs")
    arguments = parser.parse_args()
    busy = busy_cores()
    with tempfile.TemporaryDirectory() as folder:
        models = model_repository(arguments.engines, Path(folder))
        figures = asyncio.run(measure(models, arguments.seconds))
    for group, values in figures.items():
        for name, value in values.items():
            print(f"{group:>10}  {name:<38} {value}")
    refuse_if_busy(max(busy, busy_cores()))
    print(f"written to {write_results('triton', figures)}")


async def measure(models: Path, seconds: float) -> dict[str, dict[str, Any]]:
    """All figures, by group."""
    manifest = Manifest.load(models)
    with running_tritons(models, [None]) as servers:
        overhead = await measure_overhead(models, servers, seconds)
        batching = await measure_batching(models, servers, seconds)
    return {
        "model": {"preset": manifest.preset, "trained": manifest.trained},
        "conditions": {
            "seconds_a_run": seconds,
            "repeats": NUM_REPEATS,
            "load_average_1_min": round(os.getloadavg()[0], 2),
        },
        "overhead": overhead,
        "batching": batching,
        "scaling": await measure_scaling(models, seconds),
    }


async def measure_overhead(models: Path, servers: list[Triton], seconds: float) -> dict[str, Any]:
    """CPU time a frame of one session: in this process, on a server, on one with shared memory."""
    sets = {
        "in_process": await open_engines(models),
        "messages": await open_tritons(models, servers, shared_memory_bytes=0),
        "shared_memory": await open_tritons(models, servers),
    }
    runs: dict[str, list[Run]] = {name: [] for name in sets}
    for _ in range(NUM_REPEATS):
        for name, engines in sets.items():
            took_part = [] if name == "in_process" else servers
            runs[name].append(await run_sessions(engines, 1, seconds, took_part))
    for engines in sets.values():
        await engines.close()
    cost = {name: statistics.median(r.cpu_ms_per_frame for r in runs[name]) for name in sets}
    figures: dict[str, Any] = {"bar": BARS["overhead"]}
    for name in sets:
        figures[f"{name}_cpu_ms_per_frame"] = round(cost[name], 3)
        figures[f"{name}_all"] = [round(run.cpu_ms_per_frame, 3) for run in runs[name]]
        if name != "in_process":
            figures[f"{name}_ratio"] = round(cost[name] / cost["in_process"], 3)
            client_ms = statistics.median(r.client_cpu_ms_per_frame for r in runs[name])
            figures[f"{name}_client_cpu_ms_per_frame"] = round(client_ms, 3)
    return figures


async def measure_batching(models: Path, servers: list[Triton], seconds: float) -> dict[str, Any]:
    """Four sessions at once against the same four one after another."""
    engines = await open_tritons(models, servers)
    model = engines.denoiser.spec.name
    alone: list[float] = []
    together: list[float] = []
    num_inferences, num_executions = 0, 0
    for _ in range(NUM_REPEATS):
        alone.append((await run_sessions(engines, 1, seconds, servers)).fps)
        before = servers[0].counts(model)
        together.append((await run_sessions(engines, NUM_SESSIONS, seconds, servers)).fps)
        after = servers[0].counts(model)
        num_inferences += after[0] - before[0]
        num_executions += after[1] - before[1]
    await engines.close()
    one, four = statistics.median(alone), statistics.median(together)
    return {
        "bar": BARS["batching"],
        "sessions": NUM_SESSIONS,
        "one_after_another_fps": round(one, 2),
        "at_once_fps": round(four, 2),
        "ratio": round(four / one, 3),
        "denoiser_inferences": num_inferences,
        "denoiser_executions": num_executions,
    }


async def measure_scaling(models: Path, seconds: float) -> dict[str, Any]:
    """Frames a second of four sessions on one pinned server and on two."""
    cores = sorted(os.sched_getaffinity(0))[:2]
    if len(cores) < 2:
        return {"skipped": "one core"}
    runs: dict[int, list[Run]] = {1: [], 2: []}
    with running_tritons(models, list(cores)) as servers:
        for _ in range(NUM_REPEATS):
            for count, done in runs.items():
                engines = await open_tritons(models, servers[:count])
                done.append(await run_sessions(engines, NUM_SESSIONS, seconds, servers[:count]))
                await engines.close()
    figures: dict[str, Any] = {"bar": BARS["scaling"], "sessions": NUM_SESSIONS}
    fps = {count: statistics.median(run.fps for run in done) for count, done in runs.items()}
    for count, done in runs.items():
        name = f"{('one', 'two')[count - 1]}_server{'s' * (count - 1)}"
        figures[f"{name}_fps"] = round(fps[count], 2)
        figures[f"{name}_all"] = [round(run.fps, 2) for run in done]
        cpu_ms = statistics.median(run.cpu_ms_per_frame for run in done)
        figures[f"{name}_cpu_ms_per_frame"] = round(cpu_ms, 3)
        client_ms = statistics.median(run.client_cpu_ms_per_frame for run in done)
        figures[f"{name}_client_cpu_ms_per_frame"] = round(client_ms, 3)
    figures["ratio"] = round(fps[2] / fps[1], 3)
    return figures


async def open_tritons(models: Path, servers: list[Triton], **options: int) -> EngineSet:
    """Engines on all of the servers."""
    endpoints = tuple(server.address for server in servers)
    settings = TritonOptions(endpoints, default_timeout_s=CALL_TIMEOUT_S, **options)
    return await open_triton_engines(models, settings)


async def run_sessions(
    engines: EngineSet, num_sessions: int, seconds: float, servers: list[Triton]
) -> Run:
    """Runs sessions at once for a time, after a warm-up that is not counted."""
    await _sessions(engines, num_sessions, WARM_UP_S)
    started, client_s, server_s = time.perf_counter(), time.process_time(), _cpu_s(servers)
    num_chunks = await _sessions(engines, num_sessions, seconds)
    return Run(
        wall_s=time.perf_counter() - started,
        client_cpu_s=time.process_time() - client_s,
        server_cpu_s=_cpu_s(servers) - server_s,
        num_frames=num_chunks * engines.manifest.chunk_frames,
    )


async def _sessions(engines: EngineSet, num_sessions: int, seconds: float) -> int:
    """Chunks that all sessions made together."""
    end = time.perf_counter() + seconds
    return sum(await asyncio.gather(*(_session(engines, i, end) for i in range(num_sessions))))


def _cpu_s(servers: list[Triton]) -> float:
    return sum(server.cpu_s for server in servers)


async def _session(engines: EngineSet, seed: int, end: float) -> int:
    """The engine calls of a stream; each chunk's motion is the last chunk's latents."""
    manifest = engines.manifest
    audio_inputs = make_inputs(manifest, engines.audio_encoder.spec, 1, seed)
    inputs = make_inputs(manifest, engines.denoiser.spec, 1, seed)
    window = make_inputs(manifest, engines.decoder.spec, 1, seed)["latents"]
    num_motion, num_window = inputs["motion"].shape[1], window.shape[1]
    num_chunks = 0
    while time.perf_counter() < end:
        audio = await engines.audio_encoder.infer(audio_inputs)
        latents = (await engines.denoiser.infer({**inputs, **audio}))["latents"]
        window = np.concatenate([window, latents], axis=1)[:, -num_window:]
        inputs["motion"] = window[:, -num_motion:]
        await engines.decoder.infer({"latents": window})
        num_chunks += 1
    return num_chunks


if __name__ == "__main__":
    main()
