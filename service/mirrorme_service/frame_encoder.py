"""Frames to what the client asked for: the encoders' contract, and the choice of one.

Encoders of one session are used by one caller at a time, in a worker thread: encoding blocks, and
releases the GIL while it works.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

import numpy as np
from mirrorme.animate.v1 import animation_pb2 as pb
from numpy.typing import NDArray

from mirrorme_service.errors import InvalidRequest

RAW_ENCODINGS: tuple[pb.FrameEncoding, ...] = (pb.FRAME_ENCODING_RGB24, pb.FRAME_ENCODING_I420)
"""Sent one frame a message."""

Frames = NDArray[np.uint8]
"""[F, H, W, 3], RGB."""


@dataclass(frozen=True)
class EncodedFrame:
    """One frame as the client gets it."""

    data: bytes
    is_key_frame: bool
    """Decodable without earlier frames."""


class FrameEncoder(Protocol):
    """Encodes the frames of one session, in order."""

    def encode(self, frames: Frames, *, force_key_frame: bool = False) -> list[EncodedFrame]:
        """Encodes consecutive frames; gives exactly one encoded frame for each.

        Args:
            frames: uint8 [F, H, W, 3] of the size that the encoder was opened for; not changed.
            force_key_frame: make the first of them a key frame.
        """
        ...

    def close(self) -> None:
        """Frees what the encoder holds. Idempotent. No use after that."""
        ...


def check_frame_size(
    encoding: pb.FrameEncoding, width_px: int, height_px: int, *, field: str
) -> None:
    """Refuses encodings that cannot hold frames of this size.

    Raises:
        InvalidRequest: FRAME_SIZE_ODD
    """
    halves_chroma = encoding in (pb.FRAME_ENCODING_H264, pb.FRAME_ENCODING_I420)
    if halves_chroma and (width_px % 2 or height_px % 2):
        name = pb.FrameEncoding.Name(encoding)
        raise InvalidRequest(
            "FRAME_SIZE_ODD",
            f"{name} needs an even width and height, the model's frames are "
            f"{width_px}x{height_px}: choose FRAME_ENCODING_JPEG or FRAME_ENCODING_RGB24",
            field=f"{field}.encoding",
            got=f"{width_px}x{height_px}",
            expected="even width and height",
        )


def open_frame_encoder(
    output: pb.OutputFormat,
    width_px: int,
    height_px: int,
    frame_rate: Fraction,
    *,
    field: str = "config.output",
) -> FrameEncoder:
    """An encoder for one session. Loads the libraries of the chosen encoding only.

    Args:
        output: checked, with every default filled in.
        width_px, height_px: of every frame.
        frame_rate: frames a second.
        field: the request's field, for errors.

    Raises:
        InvalidRequest: FRAME_SIZE_ODD
    """
    check_frame_size(output.encoding, width_px, height_px, field=field)
    match output.encoding:
        case pb.FRAME_ENCODING_JPEG:
            from mirrorme_service.jpeg_encoder import JpegEncoder

            return JpegEncoder(output.jpeg_quality)
        case pb.FRAME_ENCODING_H264:
            from mirrorme_service.h264_encoder import H264Encoder

            return H264Encoder(
                width_px,
                height_px,
                frame_rate,
                bitrate_bps=output.h264_bitrate_bps or None,
                key_frame_interval_frames=output.h264_key_frame_interval_frames,
            )
        case pb.FRAME_ENCODING_RGB24:
            from mirrorme_service.raw_encoder import Rgb24Encoder

            return Rgb24Encoder()
        case pb.FRAME_ENCODING_I420:
            from mirrorme_service.raw_encoder import I420Encoder

            return I420Encoder()
        case _:
            raise ValueError(f"an output format without its defaults: encoding {output.encoding}")
