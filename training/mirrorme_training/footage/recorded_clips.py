"""A folder of footage as a source of training clips."""

from __future__ import annotations

import hashlib
import io
import json
import math
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mirrorme_model.vae_config import FRAMES_PER_LATENT
from torch import Tensor, nn

from mirrorme_training.clip_window import (
    LEAD_LATENTS,
    MASK_STRIDE,
    START_LATENTS,
    UNKNOWN_VISEME,
    ClipWindow,
    heard_latents,
)
from mirrorme_training.footage.clip_record import SUFFIXES, decode_sound, decode_video
from mirrorme_training.footage.clip_shards import INDEX_NAME, read_index
from mirrorme_training.footage.errors import FootageError
from mirrorme_training.footage.footage_config import Framing
from mirrorme_training.motion_noise import FRAME_RATE
from mirrorme_training.portrait_pose import CONTROLS
from mirrorme_training.recipe import BankConfig, RecipeError
from mirrorme_training.speech import SAMPLE_RATE_HZ
from mirrorme_training.speech_shards import ShardError

_LEAD_FRAMES = FRAMES_PER_LATENT - 1
_LATENTS_PER_S = FRAME_RATE // FRAMES_PER_LATENT
_FULL_SCALE = 32768.0


def is_recorded(folder: Path) -> bool:
    """`mirrorme-train prepare` made this folder."""
    return (folder / INDEX_NAME).is_file()


@dataclass(frozen=True)
class _Place:
    """Bytes of a shard."""

    shard: Path
    offset: int
    num_bytes: int

    def read(self) -> bytes:
        with self.shard.open("rb") as file:
            file.seek(self.offset)
            return file.read(self.num_bytes)


@dataclass(frozen=True)
class _Clip:
    key: str
    framing: Framing
    num_frames: int
    places: dict[str, _Place]


class RecordedClips:
    """See `ClipSource`.

    What recordings do not know is marked: unknown controls are NaN, every viseme is
    `UNKNOWN_VISEME`. Hands cannot be kept out of real pictures: with `bank.hands` false their
    keypoints are not given.
    """

    def __init__(self, folder: Path, device: torch.device | str = "cpu") -> None:
        """
        Raises:
            ShardError: the folder holds no whole set of clips.
        """
        try:
            index = read_index(folder)
            self._size_px: int = index["config"]["size_px"]
            self._clips = [
                clip for shard in index["shards"] for clip in _clips(folder / shard["name"], shard)
            ]
        except (FootageError, OSError, tarfile.TarError, KeyError) as error:
            raise ShardError(f"{folder}: {error}") from error
        if not self._clips:
            raise ShardError(f"{folder} holds no clips: see its report.html")
        hashes = [shard["sha256"] for shard in index["shards"]]
        self._data_hash = hashlib.sha256(json.dumps(hashes).encode()).hexdigest()
        self._device = torch.device(device)

    @property
    def device(self) -> torch.device:
        """See `ClipSource`."""
        return self._device

    @property
    def num_clips(self) -> int:
        """See `ClipSource`."""
        return len(self._clips)

    @property
    def is_endless(self) -> bool:
        """See `ClipSource`."""
        return False

    @property
    def data_hash(self) -> str:
        """See `ClipSource`."""
        return self._data_hash

    def window(self, number: int, bank: BankConfig, size_px: int, seed: int) -> ClipWindow:
        """See `ClipSource`."""
        if size_px > self._size_px or size_px % MASK_STRIDE:
            raise RecipeError(
                f"the clips are of {self._size_px} pixels: want at most that, and a multiple of "
                f"{MASK_STRIDE}, not {size_px}"
            )
        num_rows = (1 + bank.window_latents) * FRAMES_PER_LATENT
        random = np.random.default_rng([seed, number])
        framing = "close_up" if random.random() < bank.close_up else "half_body"
        among = self._among(framing, num_rows)
        lap, place = divmod(number, len(among))
        order = np.random.default_rng([seed, lap, 1]).permutation(len(among))
        clip = among[order[place]]
        spare = (clip.num_frames - num_rows) // FRAMES_PER_LATENT
        first = START_LATENTS * int(random.random() * (spare // START_LATENTS + 1))
        window = self._read(clip, first, bank, size_px)
        return ClipWindow(**{name: x.to(self._device) for name, x in window.items()})

    def _among(self, framing: Framing, num_rows: int) -> list[_Clip]:
        """Long clips are there as often as they have windows."""
        fitting = [
            clip
            for clip in self._clips
            if clip.framing == framing
            for _ in range(clip.num_frames // num_rows)
        ]
        if not fitting:
            kind = framing.replace("_", " ")
            longest = max((c.num_frames for c in self._clips if c.framing == framing), default=0)
            reason = (
                f"its longest is of {longest} frames, and windows of {num_rows} are asked for "
                "(bank.window_latents)"
                if longest
                else "see bank.close_up, and --framing of `mirrorme-train prepare`"
            )
            raise RecipeError(f"the footage holds no {kind} clip that fits: {reason}")
        return fitting

    def _read(
        self, clip: _Clip, first_latent: int, bank: BankConfig, size_px: int
    ) -> dict[str, Tensor]:
        contents = {suffix: clip.places[suffix].read() for suffix in SUFFIXES}
        start = first_latent * FRAMES_PER_LATENT
        stop = start + (1 + bank.window_latents) * FRAMES_PER_LATENT
        shown = slice(start + _LEAD_FRAMES, stop)
        frames = torch.from_numpy(decode_video(contents["mp4"], shown.start, shown.stop))
        with np.load(io.BytesIO(contents["npz"])) as arrays:
            masks = torch.from_numpy(arrays["masks"][shown])
            rows = {
                name: torch.from_numpy(arrays[name][start:stop]).float()
                for name in ("controls", "keypoints", "mouth")
            }
        # Prepared by an earlier version, it knows nothing of controls that came later.
        lacking = len(CONTROLS) - rows["controls"].shape[1]
        rows["controls"] = nn.functional.pad(rows["controls"], (0, lacking), value=math.nan)
        rows["keypoints"][:_LEAD_FRAMES] = 0
        if not bank.hands:
            rows["keypoints"].zero_()
        lead_samples = json.loads(contents["json"])["lead_samples"]
        frames = _resized(frames.movedim(-1, 1), size_px).movedim(1, -1).contiguous()
        return {
            "frames": frames,
            "portraits": frames[::FRAMES_PER_LATENT],
            "masks": _resized(masks, size_px // MASK_STRIDE),
            "pcm": _heard(contents["flac"], lead_samples, first_latent, bank.window_latents),
            "visemes": torch.full((stop - start,), UNKNOWN_VISEME),
            **rows,
        }


def _clips(path: Path, shard: dict[str, Any]) -> list[_Clip]:
    if path.stat().st_size != shard["num_bytes"]:
        raise FootageError(f"{path.name} is not the file that the index names")
    places: dict[str, dict[str, _Place]] = {}
    with tarfile.open(path) as tar:
        for member in tar:
            key, _, suffix = member.name.partition(".")
            places.setdefault(key, {})[suffix] = _Place(path, member.offset_data, member.size)
    return [
        _Clip(clip["key"], clip["framing"], clip["num_frames"], places[clip["key"]])
        for clip in shard["clips"]
    ]


def _resized(pictures: Tensor, size_px: int) -> Tensor:
    """`[T, C, H, W]` uint8 made smaller."""
    if pictures.shape[-1] == size_px:
        return pictures
    small = nn.functional.interpolate(pictures.float(), size=(size_px, size_px), mode="area")
    return small.round().to(torch.uint8)


def _heard(flac: bytes, lead_samples: int, first_latent: int, window_latents: int) -> Tensor:
    """The window's samples with those before and after it; silence outside of the recording."""
    sound = torch.from_numpy(decode_sound(flac)).float() / _FULL_SCALE
    start = lead_samples + (first_latent - LEAD_LATENTS) * SAMPLE_RATE_HZ // _LATENTS_PER_S
    stop = start + heard_latents(window_latents) * SAMPLE_RATE_HZ // _LATENTS_PER_S
    inside = sound[max(0, start) : stop]
    return nn.functional.pad(inside, (max(0, -start), stop - max(0, start) - len(inside)))
