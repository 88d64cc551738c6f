"""A user's video as training wants it: upright pictures at 24 a second, mono sound at 16 kHz."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TypeVar

import av
import numpy as np
import soxr
from av.audio.frame import AudioFrame
from av.error import FFmpegError
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from mirrorme_training.footage.errors import VideoError
from mirrorme_training.footage.landmarks import Pixels
from mirrorme_training.motion_noise import FRAME_RATE
from mirrorme_training.speech import SAMPLE_RATE_HZ

_SMALL_GAP_S = 0.02
"""Time stamps of sound jitter by less."""
_FULL_SCALE = 32767


@dataclass(frozen=True)
class Sound:
    """What is heard, from the moment of the first picture."""

    samples: NDArray[np.int16]
    """[N] mono, 16 kHz"""
    damage: str | None
    """Why it ends early, if it does."""


class SourceVideo:
    """A file that has pictures and sound. Every walk through it opens it anew."""

    def __init__(self, path: Path) -> None:
        """
        Raises:
            VideoError: it is no video with sound.
        """
        self.path = path
        self.damage: str | None = None
        """Why the last walk through the pictures ended early, if it did."""
        try:
            with av.open(str(path)) as container:
                if not container.streams.video:
                    raise VideoError("it has no pictures")
                if not container.streams.audio:
                    raise VideoError("it has no sound")
                self.seconds = (container.duration or 0) / av.time_base
                """As the file says; 0 if it does not."""
                ratio = container.streams.video[0].codec_context.sample_aspect_ratio
                self._pixel_ratio = float(ratio or 1)
                self._start = next(_timed(container.decode(video=0)))[0]
        except StopIteration:
            raise VideoError("it has no pictures that can be decoded") from None
        except (FFmpegError, OSError) as error:
            raise VideoError(f"it cannot be read: {_plain(error)}") from error

    def frames(self, max_side_px: int | None = None) -> Iterator[Pixels]:
        """All pictures at 24 a second: to each moment the nearest one.

        Turned upright as the file says, with square pixels, the longer side at most `max_side_px`.
        A damaged file ends where it is damaged, and `damage` says so.

        Raises:
            VideoError: not one picture can be decoded.
        """
        number = 0
        shown: VideoFrame | None = None
        shown_s = Fraction(0)
        self.damage = None
        try:
            with av.open(str(self.path)) as container:
                for time_s, frame in _timed(container.decode(video=0)):
                    if shown is not None:
                        number_to = _first_after((shown_s + time_s) / 2 - self._start)
                        yield from _repeat(
                            shown, number_to - number, self._pixel_ratio, max_side_px
                        )
                        number = max(number, number_to)
                    shown, shown_s = frame, time_s
        except (FFmpegError, OSError) as error:
            if shown is None:
                raise VideoError(f"it cannot be decoded: {_plain(error)}") from error
            self.damage = f"damaged after {number / FRAME_RATE:.1f} s ({_plain(error)})"
        if shown is not None:
            number_to = _first_after(shown_s + Fraction(1, 2 * FRAME_RATE) - self._start)
            yield from _repeat(shown, number_to - number, self._pixel_ratio, max_side_px)

    def sound(self) -> Sound:
        """The first sound track; silence where it has gaps.

        Raises:
            VideoError: no sound can be decoded.
        """
        parts: list[NDArray[np.int16]] = []
        damage = None
        stream: soxr.ResampleStream | None = None
        rate_hz = done = 0
        try:
            with av.open(str(self.path)) as container:
                for time_s, frame in _timed(container.decode(audio=0)):
                    if stream is None:
                        rate_hz = frame.sample_rate
                        stream = soxr.ResampleStream(rate_hz, SAMPLE_RATE_HZ, 1, dtype="float32")
                    elif frame.sample_rate != rate_hz:
                        raise VideoError("its sound changes its sample rate on the way")
                    samples = _mono(frame)
                    late = round((time_s - self._start) * rate_hz) - done
                    if late > _SMALL_GAP_S * rate_hz:
                        samples = np.concatenate([np.zeros(late, np.float32), samples])
                    elif late < -_SMALL_GAP_S * rate_hz:
                        samples = samples[-late:]
                    done += len(samples)
                    parts.append(_to_int16(stream.resample_chunk(samples)))
        except (FFmpegError, OSError) as error:
            damage = f"sound is damaged after {done / max(1, rate_hz):.1f} s ({_plain(error)})"
        if stream is None:
            raise VideoError(f"its sound cannot be decoded{f': {damage}' if damage else ''}")
        parts.append(_to_int16(stream.resample_chunk(np.zeros(0, np.float32), last=True)))
        return Sound(np.concatenate(parts), damage)


_Frame = TypeVar("_Frame", VideoFrame, AudioFrame)


def _timed(frames: Iterator[_Frame]) -> Iterator[tuple[Fraction, _Frame]]:
    """With times in seconds; frames without a time stamp follow the one before."""
    expected = Fraction(0)
    for frame in frames:
        time_s = expected
        if frame.pts is not None and frame.time_base is not None:
            time_s = frame.pts * frame.time_base
        yield time_s, frame
        if isinstance(frame, AudioFrame):
            expected = time_s + Fraction(frame.samples, frame.sample_rate)
        else:
            expected = time_s + Fraction(1, FRAME_RATE)


def _first_after(time_s: Fraction) -> int:
    """Number of the first moment after a time."""
    return int(time_s * FRAME_RATE) + 1 if time_s >= 0 else 0


def _repeat(
    frame: VideoFrame, times: int, ratio: float, max_side_px: int | None
) -> Iterator[Pixels]:
    if times > 0:
        pixels = _upright(frame, ratio, max_side_px)
        for _ in range(times):
            yield pixels


def _upright(frame: VideoFrame, ratio: float, max_side_px: int | None) -> Pixels:
    width, height = frame.width * ratio, float(frame.height)
    scale = min(1.0, max_side_px / max(width, height)) if max_side_px else 1.0
    shaped = frame.reformat(
        max(1, round(width * scale)), max(1, round(height * scale)), "rgb24",
        interpolation="AREA" if scale < 1 else "BICUBIC", threads=1,
    )  # fmt: skip
    turns = round(frame.rotation / 90)
    return np.ascontiguousarray(np.rot90(shaped.to_ndarray(), turns), np.uint8)


def _mono(frame: AudioFrame) -> NDArray[np.float32]:
    sound = frame.to_ndarray()
    if np.issubdtype(sound.dtype, np.integer):
        limits = np.iinfo(str(sound.dtype))
        middle = (int(limits.max) + int(limits.min) + 1) // 2
        sound = (sound.astype(np.float32) - middle) / (int(limits.max) - middle + 1)
    channels = frame.layout.nb_channels
    if not frame.format.is_planar:
        sound = sound.reshape(-1, channels).T
    return sound.astype(np.float32).mean(axis=0)


def _to_int16(samples: NDArray[np.float32]) -> NDArray[np.int16]:
    return (samples.clip(-1, 1) * _FULL_SCALE).round().astype(np.int16)


def _plain(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error)
    return str(text).strip() or type(error).__name__
