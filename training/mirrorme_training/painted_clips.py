"""Procedural clips painted beforehand: where pixels are dear, each frame is painted once.

A folder holds an index and one uncompressed file a clip. Stages that train on it share its frames.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import as_completed
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import torch
from mirrorme_model.vae_config import SPATIAL_FACTOR

from mirrorme_training.clip_casting import PaintedOnDemand, cast
from mirrorme_training.clip_store import ClipStore
from mirrorme_training.clip_window import ClipWindow
from mirrorme_training.paint_manner import PaintManner
from mirrorme_training.recipe import BankConfig, RecipeError
from mirrorme_training.speech_shards import ShardError
from mirrorme_training.worker_pool import worker_pool

PAINTED_INDEX_NAME = "painted.json"


@dataclass(frozen=True)
class PaintConfig:
    """What a folder of painted clips holds."""

    num_clips: int
    window_latents: int = 6
    size_px: int = 256
    close_up: float = 0.35
    """Share of close-ups, which are without hands; the others show half a body."""
    seed: int = 0
    crop_px: int | None = None
    """Side of the square around the mouth that is painted alone, its edges on those of tokens;
    None: the whole picture."""
    liveliness: float = 1.0
    """Of what speech does not move: head, eyes, brows, smiles, trunk."""
    still: float = 0.0
    """Share of the clips with speech in which it alone moves, and the hands."""

    def __post_init__(self) -> None:
        if self.num_clips < 1 or self.window_latents < 1:
            raise ValueError("num_clips and window_latents must be at least 1")
        if self.size_px < SPATIAL_FACTOR or self.size_px % SPATIAL_FACTOR:
            raise ValueError(f"size_px is {self.size_px}: want a multiple of {SPATIAL_FACTOR}")
        crop = self.crop_px
        if crop is not None and (crop % SPATIAL_FACTOR or not 0 < crop < self.size_px):
            raise ValueError(
                f"crop_px is {crop}: want a multiple of {SPATIAL_FACTOR} below {self.size_px}"
            )

    @property
    def side_px(self) -> int:
        """Of the pictures that are painted."""
        return self.size_px if self.crop_px is None else self.crop_px

    def bank(self, *, close_up: bool) -> BankConfig:
        """As a bank that paints on demand would be told."""
        return BankConfig(
            close_up=self.close_up,
            hands=self.has_hands and not close_up,
            window_latents=self.window_latents,
        )

    @property
    def has_hands(self) -> bool:
        """True: half bodies are painted with their hands."""
        return self.crop_px is None


def write_painted(
    folder: Path, data: Path, config: PaintConfig, num_workers: int = 1
) -> Iterator[Path]:
    """Paints what is missing, and yields each file as it is done.

    Args:
        data: folder of speech and movement, as `mirrorme-train speech` makes.

    Raises:
        ShardError: `folder` holds other clips, or `data` none.
        RecipeError: the clips are shorter than the windows.
    """
    folder.mkdir(parents=True, exist_ok=True)
    store = ClipStore(data)
    bank = config.bank(close_up=False)
    castings = [cast(number, store, bank, config.seed) for number in range(config.num_clips)]
    wanted = {
        "config": asdict(config),
        "data_sha256": store.data_hash,
        "close_up": [casting.close_up for casting in castings],
    }
    index = folder / PAINTED_INDEX_NAME
    if index.exists():
        if json.loads(index.read_text()) != wanted:
            raise ShardError(f"{folder} holds other painted clips: choose another folder")
    else:
        index.write_text(json.dumps(wanted) + "\n")
    missing = [n for n in range(config.num_clips) if not _path(folder, n).exists()]
    with worker_pool(num_workers, _open, data) as pool:
        jobs = [pool.submit(_paint, folder, config, n, wanted["close_up"][n]) for n in missing]
        for job in as_completed(jobs):
            yield job.result()


def is_painted(folder: Path) -> bool:
    """True where `write_painted` began."""
    return (folder / PAINTED_INDEX_NAME).exists()


class PaintedClips:
    """See `ClipSource`."""

    def __init__(self, folder: Path, device: torch.device | str = "cpu") -> None:
        """
        Raises:
            ShardError: the folder holds no whole set of painted clips, or one of another version.
        """
        try:
            text = (folder / PAINTED_INDEX_NAME).read_text()
            index = json.loads(text)
            self._config = PaintConfig(**index["config"])
            self._close_up: list[bool] = index["close_up"]
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise ShardError(f"{folder} is no folder of painted clips: {error}") from error
        for number in range(self._config.num_clips):
            if not _path(folder, number).exists():
                raise ShardError(f"{_path(folder, number)} is missing: paint the clips again")
        with np.load(_path(folder, 0)) as first:
            if {f.name for f in fields(ClipWindow)} != set(first.files):
                raise ShardError(
                    f"{folder} is of another version of `mirrorme-train paint`: paint the clips "
                    "again, into another folder"
                )
        self._folder = folder
        self._device = torch.device(device)
        self._data_hash = hashlib.sha256(text.encode()).hexdigest()

    @property
    def device(self) -> torch.device:
        """See `ClipSource`."""
        return self._device

    @property
    def num_clips(self) -> int:
        """See `ClipSource`."""
        return self._config.num_clips

    @property
    def is_endless(self) -> bool:
        """See `ClipSource`."""
        return False

    @property
    def data_hash(self) -> str:
        """See `ClipSource`. Of the index, which names speech and seed: painting has no chance."""
        return self._data_hash

    def window(self, number: int, bank: BankConfig, size_px: int, seed: int) -> ClipWindow:
        """See `ClipSource`."""
        have = self._config
        if (bank.window_latents, size_px) != (have.window_latents, have.side_px):
            raise RecipeError(
                f"the painted clips are of {have.window_latents} latents and {have.side_px} "
                f"pixels: want {bank.window_latents} (bank.window_latents) and {size_px}"
            )
        random = np.random.default_rng([seed, number])
        close_up = bool(random.random() < bank.close_up)
        among = [n for n, close in enumerate(self._close_up) if close == close_up]
        if not among or (not close_up and bank.hands != have.has_hands):
            kind = "close-ups" if close_up else f"half bodies with hands = {bank.hands}"
            raise RecipeError(f"the painted clips hold no {kind}")
        lap, place = divmod(number, len(among))
        order = np.random.default_rng([seed, lap, 1]).permutation(len(among))
        with np.load(_path(self._folder, among[order[place]])) as file:
            arrays = {f.name: torch.from_numpy(file[f.name]) for f in fields(ClipWindow)}
        halves = {name: a.float() if a.dtype == torch.float16 else a for name, a in arrays.items()}
        return ClipWindow(**{name: array.to(self._device) for name, array in halves.items()})


def _path(folder: Path, number: int) -> Path:
    return folder / f"clip-{number:06d}.npz"


_source: PaintedOnDemand


def _open(data: Path) -> None:
    global _source
    torch.set_num_threads(1)
    _source = PaintedOnDemand(ClipStore(data))


def _paint(folder: Path, config: PaintConfig, number: int, close_up: bool) -> Path:
    bank = config.bank(close_up=close_up)
    still = np.random.default_rng([config.seed, number, 2]).random() < config.still
    # In silent clips nothing would move, nor would the controls that are exercised there.
    still = still and _source.speaks(number, bank, config.seed)
    liveliness = 0.0 if still else config.liveliness
    manner = PaintManner(config.size_px, config.crop_px, liveliness, sway=liveliness)
    (window,) = _source.painted([number], bank, [manner], config.seed)
    arrays = {f.name: getattr(window, f.name) for f in fields(window)}
    halves = {name: a.half() if a.dtype == torch.float32 else a for name, a in arrays.items()}
    path = _path(folder, number)
    partial = path.with_suffix(".partial.npz")
    np.savez(partial, **{name: array.numpy() for name, array in halves.items()})
    partial.replace(path)
    return path
