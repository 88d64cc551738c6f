"""TensorRT engines on a GPU, beside diffusers' LTX on the same GPU and the limit of the hardware.

    python benchmarks/tensorrt_engines.py --engines engines/repository/ltx-2b \\
        --peak-tflops 989 --peak-gb-per-s 3350 [--precision fp16] [--seconds 5]
    python benchmarks/tensorrt_engines.py --engines engines/repository/demo --count-only

Per engine and batch: milliseconds a run as the gateway calls it, copies included, against the least
that the hardware allows (FLOPs counted in the ONNX graph, weights and tensors moved once, at the
peaks given: the maker's dense figures for the precision). Whole chunks a second, as sessions make
them; then the same numbers of tokens, steps and latent frames through diffusers' LTX transformer
and decoder, with random weights of the published shape. `--count-only` counts, and needs no GPU.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from machine import write_results
from mirrorme_engines.engine import Engine, EngineSet, Tensors
from mirrorme_engines.engine_options import EngineOptions
from mirrorme_engines.errors import EngineError
from mirrorme_engines.manifest import EngineSpec, Manifest
from mirrorme_engines.open_engines import open_engines
from mirrorme_export.onnx_cost import GraphCost, graph_cost

WEIGHT_BYTES = {"fp32": 4, "tf32": 4, "fp16": 2, "bf16": 2, "fp8": 1}
NUM_SESSIONS = (1, 4, 8)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--engines", type=Path, default=Path("engines/repository/demo"))
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    parser.add_argument("--precision", choices=WEIGHT_BYTES, default="fp16", help="of the plans")
    parser.add_argument("--peak-tflops", type=float, help="of the GPU, dense, in that precision")
    parser.add_argument("--peak-gb-per-s", type=float, help="of the GPU's memory")
    parser.add_argument("--count-only", action="store_true", help="count FLOPs and bytes, and end")
    arguments = parser.parse_args()
    manifest = Manifest.load(arguments.engines)
    costs = count(arguments.engines, manifest, WEIGHT_BYTES[arguments.precision])
    if arguments.count_only:
        return
    if arguments.peak_tflops is None or arguments.peak_gb_per_s is None:
        parser.error("give --peak-tflops and --peak-gb-per-s of the GPU, or --count-only")
    try:
        figures = asyncio.run(_measure(arguments, costs))
    except EngineError as error:
        sys.exit(f"not measured: {error}")
    print(f"written to {write_results('tensorrt_engines', figures)}")


def count(folder: Path, manifest: Manifest, bytes_a_weight: int) -> dict[str, GraphCost]:
    """Prints and gives the cost of one run of each engine, at batch size 1."""
    costs = {spec.name: graph_cost(folder / spec.file, spec) for spec in manifest.engines}
    for name, cost in costs.items():
        moved_mb = cost.bytes_moved(bytes_a_weight) / 1e6
        print(f"{name:<18}{cost.flops / 1e9:12.2f} GFLOP{moved_mb:12.1f} MB moved at least")
    return costs


async def _measure(arguments: argparse.Namespace, costs: dict[str, GraphCost]) -> dict[str, Any]:
    engines = await open_engines(arguments.engines, EngineOptions(platform="tensorrt"))
    manifest = engines.manifest
    figures: dict[str, Any] = {
        "preset": manifest.preset,
        "platform": engines.platform,
        "precision": arguments.precision,
        "peak_tflops": arguments.peak_tflops,
        "peak_gb_per_s": arguments.peak_gb_per_s,
        "gflop": {name: round(cost.flops / 1e9, 3) for name, cost in costs.items()},
        "engines": {},
        "frames_per_s": {},
    }
    for engine in engines.engines:
        for batch_size in sorted({1, engine.spec.max_batch_size}):
            row = await _engine_row(arguments, engine, batch_size)
            figures["engines"][f"{engine.spec.name}, batch {batch_size}"] = row
            print(f"{engine.spec.name:<18}batch {batch_size:<4}{row}")
    for num_sessions in NUM_SESSIONS:
        rate = await _chunks_per_s(engines, num_sessions, arguments.seconds)
        figures["frames_per_s"][f"{num_sessions} sessions"] = round(rate * manifest.chunk_frames, 1)
        print(f"{num_sessions} sessions: {rate * manifest.chunk_frames:.1f} frames/s")
    chunk_s = 1 / await _chunks_per_s(engines, 1, arguments.seconds)
    await engines.close()
    figures["chunk_ms"] = round(1000 * chunk_s, 2)
    figures["diffusers_chunk_ms"] = round(1000 * diffusers_chunk_s(manifest, arguments.seconds), 2)
    figures["diffusers_over_ours"] = round(figures["diffusers_chunk_ms"] / figures["chunk_ms"], 2)
    print(f"a chunk: {figures['chunk_ms']} ms, diffusers {figures['diffusers_chunk_ms']} ms")
    return figures


async def _engine_row(
    arguments: argparse.Namespace, engine: Engine, batch_size: int
) -> dict[str, float]:
    inputs = _inputs(engine.spec, batch_size)
    times_s: list[float] = []
    end_s = time.perf_counter() + arguments.seconds
    while time.perf_counter() < end_s:
        start_s = time.perf_counter()
        await engine.infer(inputs)
        times_s.append(time.perf_counter() - start_s)
    run_s = float(np.median(times_s))
    cost = graph_cost(arguments.engines / engine.spec.file, engine.spec, batch_size)
    least_s = cost.least_s(
        arguments.peak_tflops * 1e12,
        arguments.peak_gb_per_s * 1e9,
        WEIGHT_BYTES[arguments.precision],
    )
    return {
        "ms": round(1000 * run_s, 3),
        "least_ms": round(1000 * least_s, 4),
        "of_limit": round(least_s / run_s, 4),
        "tflops": round(cost.flops / run_s / 1e12, 3),
    }


async def _chunks_per_s(engines: EngineSet, num_sessions: int, seconds: float) -> float:
    """Chunks of all sessions together, each made whole before its next."""
    chain = (engines.audio_encoder, engines.denoiser, engines.decoder)
    calls = [(engine, _inputs(engine.spec, 1)) for engine in chain]
    start_s = time.perf_counter()

    async def session() -> int:
        num_chunks = 0
        while time.perf_counter() < start_s + seconds:
            for engine, inputs in calls:
                await engine.infer(inputs)
            num_chunks += 1
        return num_chunks

    counts = await asyncio.gather(*(session() for _ in range(num_sessions)))
    return sum(counts) / (time.perf_counter() - start_s)


def _inputs(spec: EngineSpec, batch_size: int) -> Tensors:
    random = np.random.default_rng(0)
    return {
        tensor.name: random.standard_normal((batch_size, *tensor.dims)).astype(tensor.dtype)
        if tensor.dtype == "float32"
        else np.zeros((batch_size, *tensor.dims), tensor.dtype)
        for tensor in spec.inputs
    }


def diffusers_chunk_s(
    manifest: Manifest,
    seconds: float,
    *,
    device: str = "cuda",
    config: dict[str, Any] | None = None,
) -> float:
    """Seconds that diffusers' LTX transformer and decoder take for what one chunk is made of.

    The portrait, the motion context and the chunk's own latents, denoised together in as many
    steps, and the decoder's window decoded: bf16 on a GPU, random weights, one prompt token.

    Args:
        manifest: says how many latents and steps.
        seconds: of the measurement.
        device: of torch.
        config: changes of the transformer's and decoder's published shape, by part.
    """
    # diffusers and torch take seconds to import: not for --help.
    import torch
    from diffusers.models.autoencoders.autoencoder_kl_ltx import AutoencoderKLLTXVideo
    from diffusers.models.transformers.transformer_ltx import LTXVideoTransformer3DModel

    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    changes = config or {}
    with torch.device(device):
        torch.set_default_dtype(dtype)
        transformer = LTXVideoTransformer3DModel(**changes.get("transformer", {})).eval()
        vae = AutoencoderKLLTXVideo(**changes.get("vae", {})).eval()
    torch.set_default_dtype(torch.float32)
    video, chunk = manifest.video, manifest.chunk
    num_latents = 1 + chunk.motion_latents + chunk.num_latents
    height, width = video.latent_height, video.latent_width
    window = chunk.decoder_context_latents + chunk.num_latents + chunk.decoder_lookahead_latents
    steps = manifest.engine("denoiser").num_steps or 1

    def tensor(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, dtype=dtype, device=device)

    tokens = tensor(1, num_latents * height * width, transformer.config["in_channels"])
    text = tensor(1, 1, transformer.config["caption_channels"])
    mask = torch.ones(1, 1, dtype=dtype, device=device)
    latents = tensor(1, vae.config["latent_channels"], window, height, width)

    def make_chunk() -> None:
        hidden = tokens
        for step in range(steps):
            time_s = torch.full((1,), 1000.0 * (1 - step / steps), dtype=dtype, device=device)
            velocity = transformer(
                hidden, text, time_s, mask, num_latents, height, width, return_dict=False
            )[0]
            hidden = hidden - velocity / steps
        vae.decode(latents, return_dict=False)

    return _run_s(make_chunk, seconds, torch.cuda.synchronize if device == "cuda" else lambda: None)


def _run_s(run: Callable[[], None], seconds: float, wait: Callable[[], None]) -> float:
    import torch

    times_s: list[float] = []
    with torch.inference_mode():
        run()
        wait()
        end_s = time.perf_counter() + seconds
        while not times_s or time.perf_counter() < end_s:
            start_s = time.perf_counter()
            run()
            wait()
            times_s.append(time.perf_counter() - start_s)
    return float(np.median(times_s))


if __name__ == "__main__":
    main()
