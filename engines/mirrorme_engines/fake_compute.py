"""What the fake engines compute: codes of their inputs, carried through latents into gray cells.

A latent is constant over h × w but for its first channel, the portrait's brightness by cell. The
first channels of a latent, all in 0..1, are listed in `CHANNELS`. A frame shows the portrait's
brightness, and over it, in rows of 8 × 8 pixels from the top left, one gray cell a code: constant
over a JPEG block, so that codes survive encoding within a few levels. `read_codes` reads them.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from fractions import Fraction
from math import ceil

import numpy as np
from numpy.typing import NDArray

from mirrorme_engines.engine import Tensors
from mirrorme_engines.manifest import EngineSpec, Manifest

CELL_PX = 8
CHANNELS = (
    "brightness",
    "identity_code",
    "noise_code",
    "audio_energy",
    "audio_code",
    "motion_code",
    "hands_code",
    "controls_code",
    "latent_count",
)
_NEUTRAL = frozenset({"noise", "identity", "motion", "audio_tokens", "hand_keypoints"})


@dataclass(frozen=True)
class FrameCodes:
    """What a fake frame says of the inputs that made it; each 0 to 255."""

    identity_code: int
    """Checksum of the portrait's pixels."""
    noise_code: int
    """Checksum of the chunk's noise."""
    audio_energy: int
    """RMS of the latent frame's own samples, 255 at full scale."""
    audio_code: int
    """Checksum of the chunk's whole audio window and phase."""
    motion_code: int
    """Checksum of the motion context."""
    hands_code: int
    """Checksum of the hand keypoints; 0 where all are zero."""
    controls_code: int
    """Checksum of all other inputs of the denoiser: controls, weights, expression, guidance."""
    latent_count: int
    """Index of the latent frame from the session's start, plus one, modulo 256."""
    frame_in_latent: int
    """0 to `frames_per_latent` - 1."""
    context_count: int
    """`latent_count` of the latent frame before this one, as the decoder was given it."""
    lookahead_count: int
    """`latent_count` of the latent frame after this one, or 0 if the decoder was given none."""


def read_codes(frame: NDArray[np.uint8]) -> FrameCodes:
    """Reads the codes of one frame, `[H, W, 3]` or `[H, W]`."""
    gray = frame if frame.ndim == 2 else frame.mean(axis=-1)
    per_row = gray.shape[1] // CELL_PX
    names = list(FrameCodes.__dataclass_fields__)
    cells = [_cell(gray, i, per_row) for i in range(len(names))]
    return FrameCodes(**{n: round(float(c.mean())) for n, c in zip(names, cells, strict=True)})


def fake_outputs(manifest: Manifest, spec: EngineSpec, inputs: Tensors) -> NDArray[np.generic]:
    """The one output of an engine, row by row: no row depends on another."""
    batch_size = len(next(iter(inputs.values())))
    output = np.zeros((batch_size, *spec.outputs[0].dims), spec.outputs[0].dtype)
    for i in range(batch_size):
        row = {name: array[i] for name, array in inputs.items()}
        match spec.role:
            case "identity_encoder":
                _encode_identity(row["image"], output[i])
            case "audio_encoder":
                _encode_audio(manifest, row, output[i])
            case "denoiser":
                _denoise(row, output[i])
            case "decoder":
                _decode(manifest, row["latents"], output[i])
    return output


def _encode_identity(image: NDArray[np.generic], identity: NDArray[np.generic]) -> None:
    """`[H, W, 3]` to `[C, h, w]`."""
    height, width = identity.shape[1:]
    cells = image.reshape(height, image.shape[0] // height, width, image.shape[1] // width, 3)
    identity[0] = cells.mean(axis=(1, 3, 4)) / 255
    identity[1] = _code(image)


def _encode_audio(
    manifest: Manifest, row: dict[str, NDArray[np.generic]], tokens: NDArray[np.generic]
) -> None:
    """`[N]` and the phase to `[Tc, K, C]`: energy and code in the first two channels."""
    audio = manifest.audio
    phase = int(row["phase"])
    offset = (phase * manifest.chunk_samples) % audio.hop_samples
    latent_samples = manifest.chunk_samples / manifest.chunk.num_latents
    for t in range(len(tokens)):
        start = audio.past_samples + offset + t * latent_samples
        own = row["pcm"][ceil(start) : ceil(start + Fraction(latent_samples))]
        tokens[t, :, 0] = min(1.0, float(np.sqrt(np.mean(np.square(own, dtype=np.float64)))))
        tokens[t, :, 1] = _code(row["pcm"], row["phase"])


def _denoise(row: dict[str, NDArray[np.generic]], latents: NDArray[np.generic]) -> None:
    """To `[Tc, C, h, w]`, with the channels of `CHANNELS`."""
    motion = row["motion"]
    others = [row[name] for name in sorted(row.keys() - _NEUTRAL)]
    last_count = round(float(motion[-1, 8, 0, 0]) * 255)
    for t in range(len(latents)):
        latents[t, :2] = row["identity"][:2]
        latents[t, 2] = _code(row["noise"])
        latents[t, 3] = row["audio_tokens"][t, 0, 0]
        latents[t, 4] = row["audio_tokens"][t, 0, 1]
        latents[t, 5] = _code(motion)
        latents[t, 6] = _code(row["hand_keypoints"])
        latents[t, 7] = _code(*others)
        latents[t, 8] = (last_count + 1 + t) % 256 / 255


def _decode(manifest: Manifest, latents: NDArray[np.generic], frames: NDArray[np.generic]) -> None:
    """`[D + Tc + L, C, h, w]` to `[8 * Tc, H, W, 3]`."""
    chunk, per_latent = manifest.chunk, manifest.video.frames_per_latent
    levels = np.round(np.clip(latents.astype(np.float32), 0, 1) * 255).astype(np.uint8)
    counts = levels[:, 8, 0, 0]
    height, width = frames.shape[1:3]
    scale = (height // levels.shape[2], width // levels.shape[3])
    for f in range(len(frames)):
        at = chunk.decoder_context_latents + f // per_latent
        frames[f] = np.kron(levels[at, 0], np.ones(scale, np.uint8))[:, :, None]
        codes = [
            *levels[at, 1:9, 0, 0],
            f % per_latent,
            counts[at - 1] if at else 0,
            counts[at + 1] if at + 1 < len(counts) else 0,
        ]
        for i, code in enumerate(codes):
            _cell(frames[f], i, width // CELL_PX)[...] = code


def _cell(frame: NDArray[np.generic], index: int, per_row: int) -> NDArray[np.generic]:
    y, x = divmod(index, per_row)
    return frame[y * CELL_PX : (y + 1) * CELL_PX, x * CELL_PX : (x + 1) * CELL_PX]


def _code(*arrays: NDArray[np.generic]) -> float:
    """A checksum in 0..1 that is a whole number of 255ths; 0 for zeros alone."""
    if not any(array.any() for array in arrays):
        return 0.0
    checksum = 0
    for array in arrays:
        checksum = zlib.crc32(np.ascontiguousarray(array).tobytes(), checksum)
    return (1 + checksum % 255) / 255
