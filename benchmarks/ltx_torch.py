"""Measures what a chunk of `ltx-2b` takes on a GPU, by its networks in torch, not compiled.

Weights are random: they do not change the time. Engines of TensorRT should be faster than this.

    python benchmarks/ltx_torch.py                             # the GPU, bf16
    python benchmarks/ltx_torch.py --preset tiny --device cpu  # to try it
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from machine import write_results
from mirrorme_model.avatar import AvatarModel
from mirrorme_model.conditions import Conditions
from mirrorme_model.config import ModelConfig
from mirrorme_model.presets import PRESETS, preset
from mirrorme_model.vae_config import FRAMES_PER_LATENT, NUM_KEYPOINTS, SPATIAL_FACTOR

_WARM_UP_CALLS = 3
_CALLS = 10


@dataclass(frozen=True)
class Bench:
    """A model and where it runs."""

    model: AvatarModel
    device: torch.device
    dtype: torch.dtype

    @property
    def config(self) -> ModelConfig:
        """Of the model."""
        return self.model.config

    def conditions(self, batch: int) -> Conditions:
        """Of `batch` chunks; what they say does not matter."""
        config = self.config
        height = config.video.height_px // SPATIAL_FACTOR
        width = config.video.width_px // SPATIAL_FACTOR
        frames = config.chunk.num_latents * FRAMES_PER_LATENT
        controls = len(config.controls.controls)
        channels = config.vae.latent_channels
        return Conditions(
            identity=self._normal(batch, channels, height, width),
            motion=self._normal(batch, config.chunk.motion_latents, channels, height, width),
            audio_tokens=self._normal(
                batch, config.chunk.num_latents, *self.model.audio.tokens.null.shape
            ),
            expression=self._zeros(batch) + 1,
            hand_keypoints=self._zeros(batch, frames, 2, NUM_KEYPOINTS, 3),
            controls=self._zeros(batch, frames, controls),
            control_weights=self._zeros(batch, frames, controls),
        )

    def latents(self, batch: int, count: int, *, channels_first: bool) -> torch.Tensor:
        """`[B, C, F, h, w]`, or `[B, F, C, h, w]` as the denoiser takes them."""
        video, channels = self.config.video, self.config.vae.latent_channels
        size = (video.height_px // SPATIAL_FACTOR, video.width_px // SPATIAL_FACTOR)
        middle = (channels, count) if channels_first else (count, channels)
        return self._normal(batch, *middle, *size)

    def time_ms(self, call: Callable[[], Any]) -> float:
        """Mean of some calls after a few others."""
        for _ in range(_WARM_UP_CALLS):
            call()
        self._wait()
        started = time.perf_counter()
        for _ in range(_CALLS):
            call()
        self._wait()
        return round((time.perf_counter() - started) / _CALLS * 1e3, 1)

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def _normal(self, *shape: int) -> torch.Tensor:
        return torch.randn(shape, device=self.device, dtype=self.dtype)

    def _zeros(self, *shape: int) -> torch.Tensor:
        return torch.zeros(shape, device=self.device, dtype=self.dtype)


def measure(bench: Bench, batch: int) -> dict[str, Any]:
    """One chunk each of `batch` sessions at a time."""
    denoiser, vae, config = bench.model.denoiser, bench.model.vae, bench.config
    conditions = bench.conditions(batch)
    noise = bench.latents(batch, config.chunk.num_latents, channels_first=False)
    window = config.vae.context_latents + config.chunk.num_latents + config.vae.lookahead_latents
    latents = bench.latents(batch, window, channels_first=True)
    row = {
        "batch": batch,
        "prefill_ms": bench.time_ms(lambda: denoiser.prefill(conditions)),
        "sample_ms": bench.time_ms(lambda: denoiser.sample(noise, conditions, None)),
        "decoder_ms": bench.time_ms(lambda: vae.decode_chunk(latents)),
    }
    video = config.video
    frame_s = video.frame_rate_denominator / video.frame_rate_numerator
    seconds = config.chunk.num_latents * FRAMES_PER_LATENT * batch * frame_s
    row["video_s_per_s"] = round(seconds * 1e3 / (row["sample_ms"] + row["decoder_ms"]), 1)
    return row


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--preset", choices=PRESETS, default="ltx-2b")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--name", default="ltx_torch", help="of the results file")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("torch sees no GPU: give --device cpu, or run it where one is")
    device = torch.device(options.device)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    config = preset(options.preset)
    with device:
        model = AvatarModel(config).eval().requires_grad_(False).to(device, dtype)
    bench = Bench(model, device, dtype)
    with torch.no_grad():
        rows = []
        for batch in options.batches:
            rows.append(measure(bench, batch))
            print(rows[-1], flush=True)
    name = torch.cuda.get_device_name() if device.type == "cuda" else "cpu"
    path = write_results(
        options.name,
        {
            "preset": options.preset,
            "device": name,
            "torch": torch.__version__,
            "dtype": str(dtype).removeprefix("torch."),
            "frame_px": [config.video.width_px, config.video.height_px],
            "chunk_frames": config.chunk.num_latents * FRAMES_PER_LATENT,
            "sampler_steps": len(config.sigmas) - 1,
            "rows": rows,
        },
    )
    print(path)


if __name__ == "__main__":
    main()
