"""How fast the in-process engines are, and how their threads are best divided.

    python benchmarks/engines.py --engines engines/repository/demo [--seconds 3]

Per engine: milliseconds a run with 1 and 2 threads, alone and as a batch of 8. Per division of
threads: chunks a second of one and of several sessions, each chunk audio encoder, denoiser,
decoder; and the time of a chunk alone. `in turn` makes a chunk whole before the next; `pipelined`
decodes a chunk while the next is denoised, as the gateway does. Writes results/engines.json, unless
other programs took the cores: then the figures say nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
from machine import busy_cores, refuse_if_busy, write_results
from mirrorme_engines.engine import Engine, EngineSet, Tensors
from mirrorme_engines.engine_options import EngineOptions
from mirrorme_engines.manifest import EngineSpec
from mirrorme_engines.open_engines import open_engines

NUM_SESSIONS = (1, 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engines", type=Path, default=Path("engines/repository/demo"))
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    arguments = parser.parse_args()
    busy = busy_cores()
    figures = asyncio.run(_measure(arguments.engines, arguments.seconds))
    refuse_if_busy(busy)
    print(f"written to {write_results('engines', figures)}")


async def _measure(folder: Path, seconds: float) -> dict[str, Any]:
    figures: dict[str, Any] = {"engines_ms": {}, "chunks_per_s": {}, "chunk_alone_ms": {}}
    for num_threads in (1, 2):
        engines = await open_engines(folder, EngineOptions(num_threads=num_threads))
        chunk_frames = engines.manifest.chunk_frames
        figures["preset"], figures["platform"] = engines.manifest.preset, engines.platform
        for engine in engines.engines:
            rows = figures["engines_ms"].setdefault(engine.spec.name, {})
            for batch_size in (1, min(8, engine.spec.max_batch_size)):
                key = f"{num_threads} threads, batch {batch_size}"
                run_ms = await _run_ms(engine, batch_size, seconds)
                rows[key] = round(run_ms, 2)
                print(f"{engine.spec.name:<18}{key:<22}{run_ms:8.1f} ms")
        alone_ms = 1000 / await _chunks_per_s(engines, False, 1, seconds)
        figures["chunk_alone_ms"][f"{num_threads} threads"] = round(alone_ms, 1)
        print(f"a chunk alone, {num_threads} threads: {alone_ms:.1f} ms")
        for order in ("in turn", "pipelined"):
            for num_sessions in NUM_SESSIONS:
                key = f"{num_threads} threads, {order}, {num_sessions} sessions"
                rate = await _chunks_per_s(engines, order == "pipelined", num_sessions, seconds)
                figures["chunks_per_s"][key] = round(rate, 2)
                print(f"{key:<34}{rate:6.2f} chunks/s {rate * chunk_frames:7.1f} frames/s")
        await engines.close()
    return figures


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
