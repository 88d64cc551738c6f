"""From a portrait file to the picture that the model sees, in threads and processes of its own.

Holds no identity latents (`identity_cache` does) and calls no engine.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from mirrorme.animate.v1 import animation_pb2 as pb
from numpy.typing import NDArray

from mirrorme_service.errors import AnimationError, InternalFault, InvalidRequest, TimedOut
from mirrorme_service.face_detector import Face, portrait_face
from mirrorme_service.picture import Picture
from mirrorme_service.picture_decoders import PictureDecoders
from mirrorme_service.picture_format import PictureLimits
from mirrorme_service.picture_process import DecoderEnded
from mirrorme_service.picture_refusal import PictureRefused
from mirrorme_service.portrait_crop import (
    CLOSE_UP,
    UPPER_BODY,
    CropBox,
    centre_crop,
    cut,
    face_crop,
    whole_picture,
)


class FaceFinder(Protocol):
    """Finds faces; `FaceDetector` is one. Called from worker threads, several at once."""

    def detect(self, picture: Picture, /) -> list[Face]:
        """Faces in an RGB picture, the highest first."""
        ...


@dataclass(frozen=True)
class FittedPortrait:
    """A picture as the identity encoder takes it."""

    pixels: NDArray[np.uint8]
    """[H, W, 3], RGB; not to be changed."""
    source_width_px: int
    """Of the picture sent, upright."""
    source_height_px: int
    crop: CropBox
    """The part of the picture that fills `pixels`."""

    def to_info(self, portrait_id: str) -> pb.PortraitInfo:
        """The same for the client."""
        return pb.PortraitInfo(
            portrait_id=portrait_id,
            source_size=pb.FrameSize(
                width_px=self.source_width_px, height_px=self.source_height_px
            ),
            crop=pb.CropBox(
                x_px=self.crop.x_px,
                y_px=self.crop.y_px,
                width_px=self.crop.width_px,
                height_px=self.crop.height_px,
            ),
        )


def fit_portrait(
    picture: Picture,
    crop_mode: pb.CropMode,
    frame_size: tuple[int, int],
    face_finder: FaceFinder,
    *,
    field: str,
) -> FittedPortrait:
    """Finds the face where the mode needs one, cuts. Blocks.

    Args:
        picture: of the portrait file.
        crop_mode: one of the contract, not UNSPECIFIED.
        frame_size: (width, height) in pixels.
        face_finder: asked only by the modes that need a face.
        field: the request's field that holds the file, for errors.

    Raises:
        InvalidRequest: reasons of `portrait_face`.
    """
    match crop_mode:
        case pb.CROP_MODE_CENTER:
            box = centre_crop(picture.size, frame_size)
        case pb.CROP_MODE_PAD:
            box = whole_picture(picture.size, frame_size)
        case pb.CROP_MODE_UPPER_BODY | pb.CROP_MODE_FACE:
            face = portrait_face(face_finder.detect(picture), *picture.size, field=field)
            framing = CLOSE_UP if crop_mode == pb.CROP_MODE_FACE else UPPER_BODY
            box = face_crop(face, picture.size, frame_size, framing)
        case _:
            raise ValueError(f"not a crop mode in force: {crop_mode}")
    pixels = cut(picture, box, frame_size)
    pixels.flags.writeable = False
    return FittedPortrait(pixels, picture.width, picture.height, box)


class PortraitReader:
    """Fits portraits in its own few threads, so that large ones take turns and no loop waits.

    A picture may take hundreds of megabytes while it is decoded: `num_threads` bounds how many do.
    """

    def __init__(
        self,
        frame_width_px: int,
        frame_height_px: int,
        face_finder: FaceFinder,
        decoders: PictureDecoders,
        limits: PictureLimits | None = None,
        *,
        num_threads: int = 2,
        max_time_s: float = 20.0,
    ) -> None:
        self._frame_size = (frame_width_px, frame_height_px)
        self._face_finder = face_finder
        self._decoders = decoders
        self._limits = limits or PictureLimits()
        self._max_time_s = max_time_s
        self._threads = ThreadPoolExecutor(num_threads, thread_name_prefix="portrait")

    async def read(self, data: bytes, crop_mode: pb.CropMode, *, field: str) -> FittedPortrait:
        """Fits one portrait. `field` names the request's field that holds the file, for errors.

        Raises:
            InvalidRequest: reasons of `decode_picture` and `fit_portrait`; PORTRAIT_TOO_COSTLY:
                decoding takes more than it may.
            TimedOut: PORTRAIT_TIMED_OUT: waiting and decoding took longer than allowed.
            InternalFault: PORTRAIT_DECODER_DIED.
        """
        context = copy_context()  # log lines name the session
        work = asyncio.get_running_loop().run_in_executor(
            self._threads, lambda: context.run(self._fit, data, crop_mode, field)
        )
        try:
            # Not wait_for: Python 3.11's loses a cancellation that comes together with the result.
            async with asyncio.timeout(self._max_time_s):
                return await work
        except TimeoutError as error:
            raise self._timed_out(field) from error

    def close(self) -> None:
        """Drops what waits; what is being decoded ends with its decoder. Idempotent."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _fit(self, data: bytes, crop_mode: pb.CropMode, field: str) -> FittedPortrait:
        try:
            with self._decoders.opened(data, self._limits) as picture:
                return fit_portrait(
                    picture, crop_mode, self._frame_size, self._face_finder, field=field
                )
        except PictureRefused as refusal:
            raise InvalidRequest(
                refusal.reason,
                refusal.message,
                field=field,
                got=refusal.got or None,
                expected=refusal.expected or None,
            ) from refusal
        except DecoderEnded as ended:
            raise self._told(ended, field) from ended

    def _told(self, ended: DecoderEnded, field: str) -> AnimationError:
        """What the client is told when the decoder of its portrait is no more."""
        match ended.end:
            case "timeout":
                return self._timed_out(field)
            case "cpu" | "memory":
                return InvalidRequest(
                    "PORTRAIT_TOO_COSTLY",
                    f"decoding the portrait {ended}: send a smaller picture, or save it anew",
                    field=field,
                )
            case "died":
                return InternalFault(
                    "PORTRAIT_DECODER_DIED",
                    "the decoder of portraits died of this one, or with it: save it anew in "
                    "another program, or send another picture",
                    field=field,
                )

    def _timed_out(self, field: str) -> TimedOut:
        return TimedOut(
            "PORTRAIT_TIMED_OUT",
            f"the portrait was not ready after {self._max_time_s:g} s: try again, or send a "
            "smaller picture",
            field=field,
            expected=f"at most {self._max_time_s:g} s",
            retry_after_s=self._max_time_s,
        )
