"""What a run writes to be looked at: lines of JSON, pictures, and the same for TensorBoard."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from PIL import Image
from torch.utils.tensorboard import SummaryWriter

from mirrorme_training.stage import Picture

LOG_NAME = "log.jsonl"
BOARD_NAME = "tensorboard"
"""Folder that `tensorboard --logdir` takes."""


class RunLog:
    """Opened for the time of a call; closing it flushes TensorBoard's file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lines = (folder / LOG_NAME).open("a")
        self._board = SummaryWriter(str(folder / BOARD_NAME))

    def numbers(self, step: int, values: dict[str, float]) -> None:
        """One line."""
        self._lines.write(json.dumps({"step": step, **values}) + "\n")
        self._lines.flush()
        for name, value in values.items():
            self._board.add_scalar(name, value, step)

    def picture(self, step: int, picture: Picture) -> Path:
        """One sample strip."""
        path = self._folder / f"strip-{step:07d}.png"
        Image.fromarray(picture).save(path)
        self._board.add_image("strip", torch.from_numpy(picture), step, dataformats="HWC")
        return path

    def close(self) -> None:
        """Closes the files."""
        self._lines.close()
        self._board.close()


def read_log(folder: Path) -> list[dict[str, float]]:
    """All lines so far; a step that was run again after a crash is there twice."""
    return [json.loads(line) for line in (folder / LOG_NAME).read_text().splitlines()]
