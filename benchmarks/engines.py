"""How fast the in-process engines are, and how their threads are best divided.

    python benchmarks/engines.py --engines engines/repository/demo [--seconds 1]

Per engine: milliseconds a run with 1 and 2 threads (the audio encoder has 1 in either), alone and
as a batch of 8. Per division of threads: chunks a second of one and of several sessions, each chunk
audio encoder, denoiser, decoder. `in turn` makes a chunk whole before the next; `pipelined` decodes
a chunk while the next is denoised, as the gateway does. All are medians of rounds in which
everything was measured once. Writes results/engines.json, unless other programs took the cores:
then the figures say nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
from machine import busy_cores, refuse_if_busy
from mirrorme_engines.engine import Engine, EngineSet, Tensors
from mirrorme_engines.engine_options import EngineOptions
from mirrorme_engines.manifest import EngineSpec
from mirrorme_engines.open_engines import open_engines
from stream import report

NUM_THREADS = (1, 2)
NUM_SESSIONS = (1, 4)
NUM_ROUNDS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engines", type=Path, default=Path("engines/repository/demo"))
    parser.add_argument("--seconds", type=float, default=1.0, help="of each, in a round")
    arguments = parser.parse_args()
    busy = busy_cores()
    figures = asyncio.run(_measure(arguments.engines, arguments.seconds))
    refuse_if_busy(busy)
    report("engines", figures)


async def _measure(folder: Path, seconds: float) -> dict[str, dict[str, Any]]:
    sets = {
        num_threads: await open_engines(folder, EngineOptions(num_threads=num_threads))
        for num_threads in NUM_THREADS
    }
    runs_ms: dict[str, dict[str, list[float]]] = {}
    chunks_per_s: dict[str, list[float]] = {}
    # All in every round: machines are faster at one time than at another.
    for number in range(1, NUM_ROUNDS + 1):
        print(f"round {number} of {NUM_ROUNDS}", flush=True)
        for num_threads, engines in sets.items():
            for engine in engines.engines:
                rows = runs_ms.setdefault(engine.spec.name, {})
                for batch_size in (1, min(8, engine.spec.max_batch_size)):
                    key = f"{num_threads} threads, batch {batch_size}"
                    rows.setdefault(key, []).append(await _run_ms(engine, batch_size, seconds))
            for order in ("in turn", "pipelined"):
                for num_sessions in NUM_SESSIONS:
                    key = f"{num_threads} threads, {order}, {num_sessions} sessions"
                    rate = await _chunks_per_s(engines, order == "pipelined", num_sessions, seconds)
                    chunks_per_s.setdefault(key, []).append(rate)
    engines = sets[NUM_THREADS[0]]
    manifest = engines.manifest
    figures: dict[str, dict[str, Any]] = {
        "model": {"preset": manifest.preset, "chunk_frames": manifest.chunk_frames},
        "run": {"platform": engines.platform, "rounds": NUM_ROUNDS, "seconds": seconds},
        **{f"{name}_ms": _medians(rows) for name, rows in runs_ms.items()},
        "chunks_per_s": _medians(chunks_per_s),
    }
    for engines in sets.values():
        await engines.close()
    return figures


def _medians(rows: dict[str, list[float]]) -> dict[str, float]:
    return {key: round(statistics.median(values), 2) for key, values in rows.items()}


async def _run_ms(engine: Engine, batch_size: int, seconds: float) -> float:
    inputs = _inputs(engine.spec, batch_size)
    times_s: list[float] = []
    end_s = time.perf_counter() + seconds
    while time.perf_counter() < end_s:
        start_s = time.perf_counter()
        await engine.infer(inputs)
        times_s.append(time.perf_counter() - start_s)
    return 1000 * statistics.median(times_s)


async def _chunks_per_s(
    engines: EngineSet, pipelined: bool, num_sessions: int, seconds: float
) -> float:
    end_s = time.perf_counter() + seconds
    start_s = time.perf_counter()
    session = _pipelined_session if pipelined else _session_in_turn
    counts = await asyncio.gather(*(session(engines, end_s) for _ in range(num_sessions)))
    return sum(counts) / (time.perf_counter() - start_s)


async def _session_in_turn(engines: EngineSet, end_s: float) -> int:
    audio, denoiser, decoder = _chunk_inputs(engines)
    num_chunks = 0
    while time.perf_counter() < end_s:
        await engines.audio_encoder.infer(audio)
        await engines.denoiser.infer(denoiser)
        await engines.decoder.infer(decoder)
        num_chunks += 1
    return num_chunks


async def _pipelined_session(engines: EngineSet, end_s: float) -> int:
    audio, denoiser, decoder = _chunk_inputs(engines)
    made: asyncio.Queue[bool] = asyncio.Queue(1)

    async def denoise() -> None:
        while time.perf_counter() < end_s:
            await engines.audio_encoder.infer(audio)
            await engines.denoiser.infer(denoiser)
            await made.put(True)
        await made.put(False)

    async def decode() -> int:
        num_chunks = 0
        while await made.get():
            await engines.decoder.infer(decoder)
            num_chunks += 1
        return num_chunks

    async with asyncio.TaskGroup() as group:
        group.create_task(denoise())
        decoding = group.create_task(decode())
    return decoding.result()


def _chunk_inputs(engines: EngineSet) -> tuple[Tensors, Tensors, Tensors]:
    audio, denoiser, decoder = engines.audio_encoder, engines.denoiser, engines.decoder
    return _inputs(audio.spec, 1), _inputs(denoiser.spec, 1), _inputs(decoder.spec, 1)


def _inputs(spec: EngineSpec, batch_size: int) -> Tensors:
    rng = np.random.default_rng(0)

    def random(dims: tuple[int, ...], dtype: str) -> np.ndarray:
        if dtype == "float32":
            return rng.standard_normal((batch_size, *dims), dtype=np.float32)
        return np.zeros((batch_size, *dims), dtype)

    return {tensor.name: random(tensor.dims, tensor.dtype) for tensor in spec.inputs}


if __name__ == "__main__":
    main()
