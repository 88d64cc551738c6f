"""A contact sheet: evenly spaced frames of a video in one PNG, each with its time."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import av.error
import numpy as np
from numpy.typing import NDArray

from mirrorme_client.errors import UnreadableInput, UnwritableOutput
from mirrorme_client.glyphs import draw_text
from mirrorme_client.partial_path import PartialPath

_LABEL_PX = 24
_GAP_PX = 4
_MARGIN_PX = 6
_PAPER = 24
_INK = 230


def write_contact_sheet(
    video: Path, sheet: Path, *, num_columns: int = 6, num_rows: int = 3, cell_width_px: int = 192
) -> int:
    """Writes the sheet, replacing a file that is there.

    Returns:
        The number of frames shown; fewer than asked for if the video has fewer.

    Raises:
        UnreadableInput: not a video.
        UnwritableOutput: the sheet cannot be written.
    """
    try:
        cells = _pick_frames(video, num_columns * num_rows, cell_width_px)
    except (av.error.FFmpegError, OSError, IndexError) as error:
        raise UnreadableInput(f"cannot read the video {video}: {error}") from error
    if not cells:
        raise UnreadableInput(f"the video {video} has no frames")
    height_px = cells[0][1].shape[0] + _LABEL_PX
    num_rows = -(-len(cells) // num_columns)
    width_px = min(num_columns, len(cells)) * (cell_width_px + _GAP_PX) + _GAP_PX
    paper = np.full((num_rows * (height_px + _GAP_PX) + _GAP_PX, width_px, 3), _PAPER, np.uint8)
    for position, (time_s, picture) in enumerate(cells):
        row, column = divmod(position, num_columns)
        top = _GAP_PX + row * (height_px + _GAP_PX)
        left = _GAP_PX + column * (cell_width_px + _GAP_PX)
        paper[top : top + picture.shape[0], left : left + cell_width_px] = picture
        label = draw_text(f"{time_s:.2f} s", scale=2)
        label_top, label_left = top + picture.shape[0] + _MARGIN_PX, left + _MARGIN_PX
        area = paper[label_top:, label_left:][: label.shape[0], : label.shape[1]]
        area[label[: area.shape[0], : area.shape[1]]] = _INK
    with PartialPath(sheet) as partial:
        try:
            partial.path.write_bytes(_png(paper))
        except OSError as error:
            raise UnwritableOutput(f"cannot write {sheet}: {error.strerror}") from error
    return len(cells)


def _pick_frames(
    video: Path, max_frames: int, width_px: int
) -> list[tuple[float, NDArray[np.uint8]]]:
    """Times in seconds and pictures `[H, width_px, 3]`, from the first frame to the last."""
    with av.open(str(video)) as container:
        stream = container.streams.video[0]
        num_frames = sum(packet.size > 0 for packet in container.demux(stream))
    count = min(num_frames, max_frames)
    wanted = {round(i * (num_frames - 1) / max(1, count - 1)) for i in range(count)}
    cells = []
    with av.open(str(video)) as container:
        for index, frame in enumerate(container.decode(video=0)):
            if index in wanted:
                height_px = max(1, round(frame.height * width_px / frame.width))
                picture = frame.to_ndarray(format="rgb24", width=width_px, height=height_px)
                cells.append((frame.time or 0.0, picture))
    return cells


def _png(picture: NDArray[np.uint8]) -> bytes:
    """`[H, W, 3]` as a PNG file."""
    encoder = av.CodecContext.create("png", "w")
    encoder.width, encoder.height, encoder.pix_fmt = picture.shape[1], picture.shape[0], "rgb24"
    encoder.time_base = Fraction(1)
    frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
    packets = encoder.encode(frame) + encoder.encode(None)
    return b"".join(bytes(packet) for packet in packets)
