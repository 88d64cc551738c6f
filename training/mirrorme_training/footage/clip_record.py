"""One clip as files of a shard: `.mp4`, `.flac`, `.npz`, `.json`."""

from __future__ import annotations

import io
import json
from dataclasses import asdict, dataclass
from fractions import Fraction

import av
import numpy as np
from numpy.typing import NDArray

from mirrorme_training.footage.footage_config import Framing
from mirrorme_training.footage.landmarks import Pixels
from mirrorme_training.motion_noise import FRAME_RATE
from mirrorme_training.speech import SAMPLE_RATE_HZ

SUFFIXES = ("mp4", "flac", "npz", "json")
_CRF = 14
"""Of H.264: hardly to be told from the source."""
_KEY_FRAMES = 24


@dataclass(frozen=True)
class ClipNotes:
    """The `.json` of a clip: where it is from, and what was measured."""

    key: str
    video: str
    """Name of the source file."""
    framing: Framing
    first_frame: int
    """In the source, at 24 a second."""
    num_frames: int
    crop_px: tuple[int, int, int]
    """Left, top, side in the source's upright picture."""
    lead_samples: int
    """Of the sound that come before the first frame; 0 at the source's start."""
    speech: float
    """Share of frames with speech."""
    sync_r: float
    sync_height: float
    sync_lag_frames: int
    """Positive: the picture is late."""
    voice_db: float
    sharpness: float
    hands: float
    """Share of frames with at least one hand."""


@dataclass(frozen=True)
class ClipRecord:
    """A clip before it is packed."""

    notes: ClipNotes
    frames: NDArray[np.uint8]
    """[T, H, W, 3]"""
    sound: NDArray[np.int16]
    """[N] 16 kHz, from `lead_samples` before the first frame"""
    controls: NDArray[np.float32]
    """[T, controls] in the order of `portrait_pose.CONTROLS`, NaN where not known"""
    keypoints: NDArray[np.float32]
    """[T, 2, 21, 3] left and right hand: x and y in 0 to 1 of the frame, visibility 0 or 1; zeros
    where not visible"""
    mouth: NDArray[np.float32]
    """[T] opening ratio"""
    masks: NDArray[np.uint8]
    """[T, 2, H / 4, W / 4] face and mouth"""

    def members(self) -> dict[str, bytes]:
        """Contents by file name."""
        arrays = io.BytesIO()
        np.savez_compressed(
            arrays,
            controls=self.controls.astype(np.float16),
            keypoints=self.keypoints.astype(np.float16),
            mouth=self.mouth.astype(np.float16),
            masks=self.masks,
        )
        contents = (
            encode_video(self.frames),
            encode_sound(self.sound),
            arrays.getvalue(),
            json.dumps(asdict(self.notes)).encode(),
        )
        return {
            f"{self.notes.key}.{suffix}": content
            for suffix, content in zip(SUFFIXES, contents, strict=True)
        }


def encode_video(frames: NDArray[np.uint8]) -> bytes:
    """`[T, H, W, 3]` to H.264 in MP4."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=FRAME_RATE)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": str(_CRF), "preset": "medium", "g": str(_KEY_FRAMES)}
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, FRAME_RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file.getvalue()


def decode_video(content: bytes, start: int, stop: int) -> NDArray[np.uint8]:
    """Frames `start` to `stop - 1`, `[T, H, W, 3]`."""
    shown: list[Pixels] = []
    with av.open(io.BytesIO(content), "r") as container:
        # Clips are small: handing pictures between threads would cost more than decoding.
        container.streams.video[0].codec_context.thread_count = 1
        for number, frame in enumerate(container.decode(video=0)):
            if number >= stop:
                break
            if number >= start:
                plain = frame.reformat(format="rgb24", threads=1)
                shown.append(np.asarray(plain.to_ndarray(), np.uint8))
    return np.stack(shown)


def encode_sound(samples: NDArray[np.int16]) -> bytes:
    """`[N]` at 16 kHz to FLAC, without loss."""
    file = io.BytesIO()
    with av.open(file, "w", format="flac") as container:
        stream = container.add_stream("flac", rate=SAMPLE_RATE_HZ, layout="mono", format="s16")
        frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
        frame.sample_rate, frame.pts = SAMPLE_RATE_HZ, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file.getvalue()


def decode_sound(content: bytes) -> NDArray[np.int16]:
    """The inverse of `encode_sound`."""
    with av.open(io.BytesIO(content), "r") as container:
        return np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
