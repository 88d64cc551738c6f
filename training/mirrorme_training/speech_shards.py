"""Clips made beforehand: clean speech and the poses that go with it, many to a file.

Nothing is painted here. Training draws a person for every clip and paints it where it trains.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mirrorme_model.vae_config import FRAMES_PER_LATENT
from numpy.typing import NDArray

from mirrorme_training.motion_noise import FRAME_RATE
from mirrorme_training.speech_visemes import VISEMES, VisemeSpan
from mirrorme_training.worker_pool import worker_pool

INDEX_NAME = "shards.json"
VISEME_NAMES = tuple(VISEMES)
"""A frame's viseme is an index into these; 0 is silence."""
_FULL_SCALE = 32767


class ShardError(Exception):
    """A folder holds no shards, or not those that were asked for."""


@dataclass(frozen=True)
class ShardConfig:
    """What a folder of shards holds."""

    num_clips: int
    num_frames: int = 128
    """Of a clip; a multiple of 8."""
    clips_per_shard: int = 64
    idle: float = 0.08
    """Share of clips without speech."""
    exercised: float = 0.0
    """Share of clips without speech in which controls move by chance as well."""
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.num_clips, self.clips_per_shard) < 1:
            raise ValueError("num_clips and clips_per_shard must be at least 1")
        if self.num_frames % FRAMES_PER_LATENT or self.num_frames < 4 * FRAMES_PER_LATENT:
            raise ValueError(
                f"num_frames is {self.num_frames}: want a multiple of {FRAMES_PER_LATENT}, "
                f"at least {4 * FRAMES_PER_LATENT}"
            )
        if min(self.idle, self.exercised) < 0 or self.idle + self.exercised > 1:
            raise ValueError(
                f"idle is {self.idle} and exercised {self.exercised}: want shares of 1 together"
            )

    @property
    def num_shards(self) -> int:
        """Files."""
        return -(-self.num_clips // self.clips_per_shard)


def write_shards(folder: Path, config: ShardConfig, num_workers: int = 1) -> Iterator[Path]:
    """Makes what is missing of the shards, and yields each as it is done.

    The same config gives the same clips, whatever the number of workers.

    Raises:
        ShardError: the folder holds shards of another config.
        SpeechError: a synthesiser is missing, or fails again and again.
    """
    folder.mkdir(parents=True, exist_ok=True)
    index, wanted = folder / INDEX_NAME, asdict(config)
    if index.exists():
        if (found := json.loads(index.read_text())) != wanted:
            raise ShardError(f"{folder} holds shards of {found}: want {wanted}")
    else:
        index.write_text(json.dumps(wanted, indent=1) + "\n")
    missing = [n for n in range(config.num_shards) if not shard_path(folder, n).exists()]
    if num_workers <= 1:
        for number in missing:
            yield _write_shard(folder, config, number)
        return
    with worker_pool(num_workers) as pool:
        jobs = [pool.submit(_write_shard, folder, config, number) for number in missing]
        for job in as_completed(jobs):
            yield job.result()


def shard_path(folder: Path, number: int) -> Path:
    """Where a shard lies."""
    return folder / f"clips-{number:05d}.npz"


def read_index(folder: Path) -> ShardConfig:
    """What a folder holds.

    Raises:
        ShardError: there is no index, or a shard is missing.
    """
    try:
        config = ShardConfig(**json.loads((folder / INDEX_NAME).read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise ShardError(
            f"{folder} is no folder of clips (`mirrorme-train speech` makes one): {error}"
        ) from error
    for number in range(config.num_shards):
        if not shard_path(folder, number).exists():
            raise ShardError(f"{shard_path(folder, number)} is missing: make the shards again")
    return config


def data_hash(folder: Path) -> str:
    """SHA-256 over the index and all shards."""
    digest = hashlib.sha256()
    for path in [folder / INDEX_NAME, *sorted(folder.glob("clips-*.npz"))]:
        digest.update(path.name.encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def viseme_frames(spans: tuple[VisemeSpan, ...], num_frames: int) -> NDArray[np.uint8]:
    """The viseme in the middle of each frame, `[T]`, an index into `VISEME_NAMES`."""
    frames = np.zeros(num_frames, np.uint8)
    middles_s = (np.arange(num_frames) + 0.5) / FRAME_RATE
    for span in spans:
        shown = (middles_s >= span.start_s) & (middles_s < span.end_s)
        frames[shown] = VISEME_NAMES.index(span.viseme)
    return frames


def _write_shard(folder: Path, config: ShardConfig, number: int) -> Path:
    from mirrorme_training.clip_generator import ClipConfig, ClipGenerator

    torch.set_num_threads(1)
    voices = () if config.idle + config.exercised >= 1 else None
    generator = ClipGenerator(
        ClipConfig(
            config.num_frames,
            idle=config.idle,
            exercised=config.exercised,
            voices=voices,
            augment=None,
        )
    )
    first = number * config.clips_per_shard
    last = min(first + config.clips_per_shard, config.num_clips)
    rows: dict[str, list[NDArray[np.generic]]] = {}
    for index in range(first, last):
        clip = generator.make(config.seed * 10_000_000 + index)
        pose = clip.pose
        trunk = torch.cat([pose.shoulders, pose.sway[:, None]], dim=1)
        row = {
            "audio": np.round(clip.clean_audio.clip(-1, 1) * _FULL_SCALE).astype(np.int16),
            "controls": _half(pose.controls),
            "details": _half(pose.details),
            "trunk": _half(trunk),
            "hands": _half(pose.hands),
            "hand_shown": _half(pose.hand_shown),
            "visemes": viseme_frames(clip.visemes, config.num_frames),
        }
        for name, value in row.items():
            rows.setdefault(name, []).append(value)
    path = shard_path(folder, number)
    partial = path.with_suffix(".partial.npz")
    arrays: dict[str, Any] = {name: np.stack(values) for name, values in rows.items()}
    np.savez_compressed(partial, **arrays)
    partial.replace(path)
    return path


def _half(values: torch.Tensor) -> NDArray[np.float16]:
    return values.half().numpy()
