"""Builds TensorRT plans of `ltx-2b` in full width and any depth: time, sizes, peak memory.

    python benchmarks/ltx_plans.py --layers 2 --gpu sm89

A build needs several times the memory of the weights, so this shows from few layers what the whole
depth needs. Weights are random; no GPU is needed for tensorrt-rtx. Writes results/ltx_plans.json.
"""

from __future__ import annotations

import argparse
import dataclasses
import multiprocessing
import tempfile
from pathlib import Path
from typing import Any

from ltx_export import StepMeter
from machine import write_results
from mirrorme_export.describe import describe_engine
from mirrorme_export.onnx_file import write_onnx
from mirrorme_export.precision_choice import save_lowered
from mirrorme_export.streamed_graphs import streamed_graphs
from mirrorme_export.tensorrt_builder import build_plan
from mirrorme_export.tensorrt_target import TensorRTOptions, find_device, profiles
from mirrorme_model.config import ModelConfig
from mirrorme_model.model_weights import random_weights
from mirrorme_model.presets import preset


def main() -> None:
    """Runs the benchmark: each engine in a process of its own."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--layers", type=int, default=2, help="of the denoiser's 28")
    parser.add_argument("--vae-blocks", type=int, help="of each stage of the VAE; default: its own")
    parser.add_argument("--gpu", default="sm89")
    parser.add_argument("--precision", choices=("fp32", "bf16", "fp16"), default="bf16")
    parser.add_argument("--engine", action="append", help="default: all")
    options = parser.parse_args()
    names = options.engine or ["identity_encoder", "audio_encoder", "denoiser", "decoder"]
    context = multiprocessing.get_context("spawn")
    rows: list[dict[str, Any]] = []
    for name in names:
        with context.Pool(1) as pool:
            rows.append(pool.apply(build, (name, options)))
        print(rows[-1], flush=True)
    figures = {
        "layers": options.layers,
        "vae_blocks": options.vae_blocks,
        "gpu": options.gpu,
        "precision": options.precision,
        "engines": rows,
    }
    print(write_results("ltx_plans", figures))


def build(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Exports and builds one engine."""
    from mirrorme_engines.tensorrt_module import load_tensorrt

    target = TensorRTOptions("tensorrt-rtx", gpu=options.gpu, precision=options.precision)
    trt = load_tensorrt(target.module)
    weights = random_weights(shallow(options.layers, options.vae_blocks), seed=0)
    graph = next(graph for graph in streamed_graphs(weights) if graph.name == name)
    meter = StepMeter()
    with tempfile.TemporaryDirectory(prefix="ltx-plans-") as scratch:
        onnx = Path(scratch) / name / "1/model.onnx"
        with meter(f"export {name}"):
            write_onnx(graph, onnx)
        spec = describe_engine(graph, Path(scratch), max_batch_size=8)
        del graph, weights
        lowered = onnx
        if options.precision in ("bf16", "fp16"):
            lowered = Path(scratch) / "model.onnx"
            with meter(f"lower {name}"):
                save_lowered(onnx, lowered, options.precision, "wide")
        with meter(f"build {name}"):
            built = build_plan(
                trt, lowered, profiles(spec, 4), find_device(trt, target), target, lambda _: None
            )
        onnx_bytes = sum(file.stat().st_size for file in lowered.parent.glob("model.onnx*"))
    return {
        "engine": name,
        "onnx_bytes": onnx_bytes,
        "plan_bytes": len(built.plan),
        "network_layers": built.facts.num_network_layers,
        "steps": meter.steps,
    }


def shallow(num_layers: int, vae_blocks: int | None) -> ModelConfig:
    """`ltx-2b` with fewer layers, of the same width."""
    config = preset("ltx-2b")
    audio_layers = tuple(layer for layer in config.dit.audio_layers if layer < num_layers)
    dit = dataclasses.replace(config.dit, num_layers=num_layers, audio_layers=audio_layers)
    vae = config.vae
    if vae_blocks is not None:
        assert vae.encoder and vae.decoder
        encoder = dataclasses.replace(vae.encoder, num_blocks=(vae_blocks,) * 5)
        decoder = dataclasses.replace(vae.decoder, num_blocks=(vae_blocks,) * 4)
        vae = dataclasses.replace(vae, encoder=encoder, decoder=decoder)
    return dataclasses.replace(config, dit=dit, vae=vae)


if __name__ == "__main__":
    main()
