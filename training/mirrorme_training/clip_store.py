"""All clips of a folder of shards, in memory, on the device that trains."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mirrorme_training.portrait_pose import CONTROLS, Pose
from mirrorme_training.speech_shards import ShardError, data_hash, read_index, shard_path

_FULL_SCALE = 32767.0


class ClipStore:
    """Owns the arrays; clips are addressed by index and cut by frames."""

    def __init__(self, folder: Path, device: torch.device | str = "cpu") -> None:
        """
        Raises:
            ShardError: the folder holds no whole set of shards, or one of another version.
        """
        config = read_index(folder)
        self.num_clips = config.num_clips
        self.num_frames = config.num_frames
        self.data_hash = data_hash(folder)
        self.device = torch.device(device)
        parts: dict[str, list[Tensor]] = {}
        for number in range(config.num_shards):
            with np.load(shard_path(folder, number)) as file:
                for name in file.files:
                    parts.setdefault(name, []).append(torch.from_numpy(file[name]))
        self._speaks = torch.cat(parts["visemes"]).any(dim=1).tolist()
        self._arrays = {name: torch.cat(rows).to(device) for name, rows in parts.items()}
        if self._arrays["controls"].shape[-1] != len(CONTROLS):
            raise ShardError(
                f"{folder} is of another version of `mirrorme-train speech`, with other controls: "
                "make the shards again"
            )

    @property
    def num_samples(self) -> int:
        """Of a clip's audio."""
        return self._arrays["audio"].shape[1]

    def audio(self, clip: int) -> Tensor:
        """Clean speech, `[N]` float32 in -1 to 1; frame n starts at sample n * 2000 / 3."""
        return self._arrays["audio"][clip].float() / _FULL_SCALE

    def speaks(self, clip: int) -> bool:
        """False: silence throughout."""
        return bool(self._speaks[clip])

    def visemes(self, clip: int) -> Tensor:
        """`[T]` int64, indices into `speech_shards.VISEME_NAMES`."""
        return self._arrays["visemes"][clip].long()

    def pose(self, clip: int, frames: slice = slice(None), *, hands: bool = True) -> Pose:
        """Poses `[T]`; without hands they stay out of the picture."""
        trunk = self._rows("trunk", clip, frames)
        shown = self._rows("hand_shown", clip, frames)
        return Pose(
            controls=self._rows("controls", clip, frames),
            details=self._rows("details", clip, frames),
            shoulders=trunk[:, :2],
            sway=trunk[:, 2],
            hands=self._rows("hands", clip, frames),
            hand_shown=shown if hands else torch.zeros_like(shown),
        )

    def _rows(self, name: str, clip: int, frames: slice) -> Tensor:
        return self._arrays[name][clip, frames].float()
