"""How fast one stream is, and what of it the engines are.

    python benchmarks/stream.py --engines engines/repository/demo

Measures over gRPC, JPEG frames, portrait cached, with the gateway and this client on the same
cores: sustained frames a second, compute part of the first-frame latency, CPU time of the gateway
beyond its engines. Writes results/stream.json.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
import wave
from collections.abc import Iterator
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from gateway_process import Gateway, running_gateway
from machine import write_results
from mirrorme.animate.v1 import animation_pb2 as pb
from mirrorme_client import jpeg, pcm_s16le
from mirrorme_engines.engine import Engine, EngineSet
from mirrorme_engines.engine_options import EngineOptions
from mirrorme_engines.manifest import EngineSpec, Manifest
from mirrorme_engines.onnxruntime_engine import open_onnxruntime_engine
from mirrorme_engines.open_engines import open_engines

EXAMPLES = Path(__file__).parents[1] / "examples"
PIECE_S = 0.02
NUM_FIRST_FRAMES = 30
NUM_ENGINE_CHUNKS = 60
WARM_UP_S = 5.0


def main() -> None:
    """Measures and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engines", type=Path, required=True, help="folder with manifest.json")
    parser.add_argument("--seconds", type=float, default=60.0, help="speech of the speed test")
    arguments = parser.parse_args()
    report("stream", asyncio.run(measure(arguments.engines, arguments.seconds)))


def report(name: str, figures: dict[str, dict[str, Any]]) -> None:
    """Prints the figures and writes them to results/<name>.json."""
    for group, values in figures.items():
        for figure, value in values.items():
            print(f"{group:>10}  {figure:<38} {value}")
    print(f"written to {write_results(name, figures)}")


async def measure(engines: Path, seconds: float) -> dict[str, dict[str, Any]]:
    """All figures, by group."""
    manifest = Manifest.load(engines)
    engine_figures = await measure_engines(engines)
    with tempfile.TemporaryDirectory() as folder:
        async with running_gateway(engines, Path(folder) / "gateway.log") as gateway:
            portrait = await register_twice(gateway)
            figures: dict[str, dict[str, Any]] = {
                "model": {
                    "preset": manifest.preset,
                    "frame_px": f"{manifest.video.width_px}x{manifest.video.height_px}",
                    "trained": manifest.trained,
                },
                "engines": engine_figures,
                "portrait": portrait.pop("figures"),
            }
            info = portrait["info"]
            await stream(gateway, info, WARM_UP_S)
            figures["stream"] = await measure_stream(gateway, info, seconds, engine_figures)
            figures["first"] = await measure_first_frame(gateway, info, manifest)
    return figures


async def measure_engines(folder: Path) -> dict[str, Any]:
    """Wall and CPU milliseconds of one chunk in each engine, called alone."""
    engines = await open_engines(folder, EngineOptions())
    figures: dict[str, Any] = {"platform": engines.platform}
    try:
        total_cpu_ms = 0.0
        for engine in (engines.audio_encoder, engines.denoiser, engines.decoder):
            wall_ms, cpu_ms = await _chunk_ms(engine)
            figures[f"{engine.spec.role}_wall_ms_per_chunk"] = round(wall_ms, 1)
            figures[f"{engine.spec.role}_cpu_ms_per_chunk"] = round(cpu_ms, 1)
            total_cpu_ms += cpu_ms
        figures["cpu_ms_per_chunk"] = round(total_cpu_ms, 1)
        figures["chunk_frames"] = chunk_frames(engines)
    finally:
        await engines.close()
    if engines.decoder.spec.cpu:
        exact = replace(engines.decoder.spec, cpu=None)
        decoder = open_onnxruntime_engine(folder, exact, EngineOptions())
        wall_ms, _ = await _chunk_ms(decoder)
        figures["float32_decoder_wall_ms_per_chunk"] = round(wall_ms, 1)
        await decoder.close()
    return figures


async def _chunk_ms(engine: Engine) -> tuple[float, float]:
    """Wall and CPU time of one chunk."""
    inputs = random_inputs(engine.spec)
    await engine.infer(inputs)
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    for _ in range(NUM_ENGINE_CHUNKS):
        await engine.infer(inputs)
    wall_s, cpu_s = time.perf_counter() - wall_s, time.process_time() - cpu_s
    return 1000 * wall_s / NUM_ENGINE_CHUNKS, 1000 * cpu_s / NUM_ENGINE_CHUNKS


def chunk_frames(engines: EngineSet) -> int:
    """Frames that one chunk makes."""
    return engines.manifest.chunk_frames


def random_inputs(spec: EngineSpec) -> dict[str, np.ndarray]:
    """One row of random inputs, the same at each run."""
    generator = np.random.default_rng(0)
    inputs: dict[str, np.ndarray] = {}
    for tensor in spec.inputs:
        shape = (1, *tensor.dims)
        if tensor.dtype == "int64":
            inputs[tensor.name] = np.zeros(shape, np.int64)
        else:
            inputs[tensor.name] = generator.standard_normal(shape).astype(tensor.dtype)
    return inputs


async def register_twice(gateway: Gateway) -> dict[str, Any]:
    """Registers the example portrait: cold, then known."""
    picture = EXAMPLES / "portrait_1.png"
    start_s = time.perf_counter()
    await gateway.client.register_portrait(picture)
    middle_s = time.perf_counter()
    response = await gateway.client.register_portrait(picture)
    end_s = time.perf_counter()
    assert response.already_known
    figures = {
        "cold_ms": round(1000 * (middle_s - start_s), 1),
        "known_ms": round(1000 * (end_s - middle_s), 1),
    }
    return {"info": response.portrait, "figures": figures}


async def measure_stream(
    gateway: Gateway, portrait: pb.PortraitInfo, seconds: float, engines: dict[str, Any]
) -> dict[str, Any]:
    """One stream as fast as possible, and where its CPU time goes.

    What the engines take is what their threads take meanwhile: two that run beside each other on
    cores that share caches take more than each of them alone.
    """
    engines_cpu_s = await asyncio.to_thread(_engines_cpu_s, gateway)
    cpu_s, client_cpu_s = gateway.cpu_s, time.process_time()
    start_s = time.perf_counter()
    num_frames, num_chunks, num_bytes = await stream(gateway, portrait, seconds)
    wall_s = time.perf_counter() - start_s
    gateway_cpu_s = gateway.cpu_s - cpu_s
    client_cpu_s = time.process_time() - client_cpu_s
    engines_cpu_s = await asyncio.to_thread(_engines_cpu_s, gateway) - engines_cpu_s
    beyond_engines_s = gateway_cpu_s - engines_cpu_s
    alone_s = num_chunks * engines["cpu_ms_per_chunk"] / 1000
    return {
        "frames": num_frames,
        "frames_per_s": round(num_frames / wall_s, 1),
        "real_time_factor": round(wall_s / seconds, 3),
        "kb_per_frame": round(num_bytes / num_frames / 1000, 1),
        "gateway_cpu_ms_per_frame": round(1000 * gateway_cpu_s / num_frames, 2),
        "engines_cpu_against_alone": round(engines_cpu_s / alone_s, 2),
        "beyond_engines_cpu_ms_per_frame": round(1000 * beyond_engines_s / num_frames, 2),
        "beyond_engines_share_of_cpu": round(beyond_engines_s / gateway_cpu_s, 3),
        "client_cpu_ms_per_frame": round(1000 * client_cpu_s / num_frames, 2),
    }


def _engines_cpu_s(gateway: Gateway) -> float:
    """CPU time that the engines took in the gateway since its start. Blocks."""
    name = "mirrorme_engine_cpu_seconds_total"
    return sum(value for key, value in gateway.metrics().items() if key.startswith(name))


async def measure_first_frame(
    gateway: Gateway, portrait: pb.PortraitInfo, manifest: Manifest
) -> dict[str, Any]:
    """From the last audio that the first chunk waits for, to its first frame at the client."""
    num_samples = manifest.audio.window_samples - manifest.audio.past_samples
    speech = next(speech_pieces(num_samples / 16000, piece_s=num_samples / 16000))
    latencies_ms: list[float] = []
    for _ in range(NUM_FIRST_FRAMES):
        async with gateway.client.animate(
            portrait, audio_format=pcm_s16le(16000), output=jpeg(), seed=1
        ) as session:
            start_s = time.perf_counter()
            await session.push_audio(speech)
            async for _batch in session:
                latencies_ms.append(1000 * (time.perf_counter() - start_s))
                break
    latencies_ms.sort()
    return {
        "algorithmic_latency_ms": round(manifest.algorithmic_latency_ms, 1),
        "compute_p50_ms": round(statistics.median(latencies_ms), 1),
        "compute_max_ms": round(latencies_ms[-1], 1),
        "sessions": len(latencies_ms),
    }


async def stream(
    gateway: Gateway, portrait: pb.PortraitInfo, seconds: float
) -> tuple[int, int, int]:
    """One session to its end. Returns frames, chunks and bytes of frames."""
    async with gateway.client.animate(
        portrait,
        audio_format=pcm_s16le(16000),
        output=jpeg(),
        audio=speech_pieces(seconds),
        seed=1,
    ) as session:
        async for _batch in session:
            pass
        summary = session.summary
        return summary.num_frames, summary.num_chunks, summary.num_frame_bytes


def speech_pieces(seconds: float, piece_s: float = PIECE_S) -> Iterator[bytes]:
    """The example speech over and over, in pieces as a microphone gives them."""
    with wave.open(str(EXAMPLES / "speech.wav")) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (16000, 1, 2)
        speech = file.readframes(file.getnframes())
    total, size = 2 * round(16000 * seconds), 2 * round(16000 * piece_s)
    whole = b"".join(piece for piece, _ in zip(cycle([speech]), range(total // len(speech) + 1)))
    for start in range(0, total, size):
        yield whole[start : min(start + size, total)]


if __name__ == "__main__":
    main()
