"""Measures what LTX's decoder loses by decoding a stream chunk by chunk.

The decoder sees latents on both sides of a chunk. A stream gives it D latents of context before the
chunk and L of look-ahead after it; each one of look-ahead delays every frame by 1/3 s. For every D
and L, the middle of a clip is decoded by chunks and compared with the whole clip decoded at once.

    python benchmarks/decoder_window.py --base ltxv-2b-0.9.8-distilled.safetensors --clip talk.mp4

Without --base the weights are random, and without --clip so are the latents: that shows how far the
decoder sees, not what a person would.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from machine import write_results
from mirrorme_model.config import ModelConfig
from mirrorme_model.model_weights import model_shapes
from mirrorme_model.presets import preset
from mirrorme_model.published_ltx import VAE, open_base
from mirrorme_model.random_source import RandomSource
from mirrorme_model.tensor_source import TensorSource
from mirrorme_model.vae import VideoVae
from mirrorme_model.vae_config import FRAMES_PER_LATENT
from torch import Tensor

LEVELS = 127.5
"""Of 255, to a range of -1 to 1."""


@dataclass(frozen=True)
class Job:
    """A clip and how it is cut."""

    vae: VideoVae
    latents: Tensor
    """[1, C, F, h, w], normalised."""
    chunk_latents: int
    margin: int
    """Latents before the first and after the last chunk that is compared."""

    def starts(self) -> list[int]:
        """First latents of all chunks."""
        end = self.latents.shape[2] - self.margin - self.chunk_latents
        return list(range(self.margin, end + 1, self.chunk_latents))


def measure(job: Job, context: int, lookahead: int, whole: Tensor) -> dict[str, Any]:
    """Decodes by chunks, and compares; errors are in levels of 255."""
    decoder = job.vae.decoder
    assert decoder
    decoder.config = dataclasses.replace(
        decoder.config, window_context_latents=context, window_lookahead_latents=lookahead
    )
    starts = job.starts()
    chunks = [
        job.vae.decode_chunk(job.latents[:, :, s - context : s + job.chunk_latents + lookahead])
        for s in starts
    ]
    frames = torch.cat([chunk.clamp(-1, 1) for chunk in chunks], dim=2)
    first = FRAMES_PER_LATENT * starts[0] - FRAMES_PER_LATENT + 1
    want = whole[:, :, first : first + frames.shape[2]]
    error = (frames - want).abs() * LEVELS
    # How much more (or less) a picture changes from a chunk's last frame to the next one's first.
    step = FRAMES_PER_LATENT * job.chunk_latents
    seams = torch.arange(step, frames.shape[2], step)
    jump = ((frames - want)[:, :, seams] - (frames - want)[:, :, seams - 1]).abs() * LEVELS
    natural = (want[:, :, seams] - want[:, :, seams - 1]).abs() * LEVELS
    mean_square = float((error / (2 * LEVELS)).square().mean())
    return {
        "context_latents": context,
        "lookahead_latents": lookahead,
        "mean_error": round(float(error.mean()), 4),
        "p99_error": round(float(np.quantile(error.numpy(), 0.99)), 3),
        "max_error": round(float(error.max()), 3),
        "psnr_db": round(-10 * math.log10(max(mean_square, 1e-12)), 1),
        "seam_jump": round(float(jump.mean()), 4),
        "natural_step": round(float(natural.mean()), 4),
    }


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--base", type=Path, help="LTX-Video file or folder; default: random")
    parser.add_argument("--clip", type=Path, help="video to encode; default: random latents")
    parser.add_argument("--side", type=int, default=64, help="of the frames, in pixels")
    parser.add_argument("--latents", type=int, default=31, help="of the clip")
    parser.add_argument("--chunk-latents", type=int, default=3)
    parser.add_argument("--contexts", type=int, nargs="+", default=[0, 1, 2, 3, 4, 6, 8])
    parser.add_argument("--lookaheads", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument(
        "--width-divisor", type=int, default=1, help="narrower networks, as deep; random only"
    )
    parser.add_argument("--name", default="decoder_window", help="of the results file")
    options = parser.parse_args()
    config = narrow(preset("ltx-2b"), 1 if options.base else options.width_divisor)
    source = (
        open_base(options.base, config)
        if options.base
        else RandomSource(model_shapes(config), seed=0)
    )
    vae = load_vae(source, config, with_encoder=options.clip is not None)
    margin = max(*options.contexts, *options.lookaheads)
    with torch.inference_mode():
        latents = (
            encode_clip(vae, options.clip, options.side, options.latents)
            if options.clip
            else random_latents(options.side, options.latents)
        )
        job = Job(vae, latents, options.chunk_latents, margin)
        if len(job.starts()) < 2:
            raise SystemExit(f"a clip of {options.latents} latents has no seam: take more")
        whole = vae.decode(latents).clamp(-1, 1)
        rows = []
        for lookahead, context in itertools.product(options.lookaheads, options.contexts):
            rows.append(measure(job, context, lookahead, whole))
            print(rows[-1], flush=True)
    assert vae.decoder
    stages = vae.decoder.config.stage_context_frames()
    path = write_results(
        options.name,
        {
            "weights": "published" if options.base else "random",
            "latents": "encoded clip" if options.clip else "random",
            "frame_px": options.side,
            "widths": vae.decoder.config.widths,
            "chunk_latents": options.chunk_latents,
            "num_chunks": len(job.starts()),
            "latents_a_side_for_exactness": stages[0] + 1,
            "rows": rows,
        },
    )
    print(path)


def narrow(config: ModelConfig, divisor: int) -> ModelConfig:
    """The same depth with fewer channels."""
    vae = config.vae

    def divided(widths: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(width // divisor for width in widths)

    assert vae.encoder and vae.decoder
    encoder = dataclasses.replace(vae.encoder, widths=divided(vae.encoder.widths))
    decoder = dataclasses.replace(vae.decoder, widths=divided(vae.decoder.widths))
    return dataclasses.replace(
        config, vae=dataclasses.replace(vae, encoder=encoder, decoder=decoder)
    )


def load_vae(source: TensorSource, config: ModelConfig, *, with_encoder: bool) -> VideoVae:
    """The VAE; its encoder has no weights if it is not needed."""
    with torch.device("meta"):
        vae = VideoVae(config.vae)
    wanted = [n for n in vae.state_dict() if with_encoder or not n.startswith("encoder.")]
    weights = {name: source.read(VAE + name) for name in wanted}
    vae.load_state_dict(weights, strict=False, assign=True)
    return vae.eval()


def random_latents(side: int, num_latents: int) -> Tensor:
    """Half of each is the same for the whole clip, as of a person before a background."""
    generator = torch.Generator().manual_seed(0)
    shape = (1, 128, num_latents, side // 32, side // 32)
    moving = torch.randn(shape, generator=generator)
    still = torch.randn(shape[0], shape[1], 1, *shape[3:], generator=generator)
    return (moving + still) / 2**0.5


def encode_clip(vae: VideoVae, path: Path, side: int, num_latents: int) -> Tensor:
    """The first frames of a video, squeezed to a square."""
    frames: list[np.ndarray] = []
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            frames.append(frame.reformat(side, side, "rgb24").to_ndarray())
            if len(frames) == FRAMES_PER_LATENT * (num_latents - 1) + 1:
                break
        else:
            raise SystemExit(f"{path} has {len(frames)} frames: too few for {num_latents} latents")
    clip = torch.from_numpy(np.stack(frames)).permute(3, 0, 1, 2)[None]
    return vae.encode(clip.float() / LEVELS - 1).mean


if __name__ == "__main__":
    main()
