"""What a run leaves to be looked at."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from mirrorme_training.run_log import BOARD_NAME, RunLog, read_log
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def test_numbers_and_strips_are_in_the_folder_and_on_the_board(tmp_path: Path) -> None:
    picture = np.zeros((4, 6, 3), np.uint8)
    picture[1, 2] = (250, 120, 30)
    log = RunLog(tmp_path)
    log.numbers(3, {"loss": 0.5, "lr": 1e-3})
    log.numbers(4, {"loss": 0.25, "lr": 1e-3})
    path = log.picture(4, picture)
    log.close()
    assert read_log(tmp_path) == [
        {"step": 3, "loss": 0.5, "lr": 1e-3},
        {"step": 4, "loss": 0.25, "lr": 1e-3},
    ]
    with Image.open(path) as strip:
        assert np.array_equal(np.asarray(strip), picture)
    board = EventAccumulator(str(tmp_path / BOARD_NAME))
    board.Reload()
    losses = board.Scalars("loss")
    assert [(event.step, event.value) for event in losses] == [(3, 0.5), (4, 0.25)]
    (image,) = board.Images("strip")
    assert image.step == 4
    with Image.open(io.BytesIO(image.encoded_image_string)) as shown:
        assert np.array_equal(np.asarray(shown)[..., :3], picture)
