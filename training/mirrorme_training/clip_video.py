"""Writes a clip as MP4, to look at and listen to."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch

from mirrorme_training.clip_generator import Clip
from mirrorme_training.motion_noise import FRAME_RATE
from mirrorme_training.speech import SAMPLE_RATE_HZ

_BATCH_FRAMES = 24


def write_clip(clip: Clip, path: Path, size_px: int, device: torch.device | str = "cpu") -> None:
    """H.264 and AAC; paints some frames at a time."""
    with av.open(str(path), "w", format="mp4") as container:
        video = container.add_stream("libx264", rate=FRAME_RATE)
        video.width = video.height = size_px
        video.pix_fmt = "yuv420p"
        video.options = {"crf": "16"}
        audio = container.add_stream("aac", rate=SAMPLE_RATE_HZ, layout="mono")
        for start in range(0, len(clip.pose), _BATCH_FRAMES):
            shown = clip.render(size_px, slice(start, start + _BATCH_FRAMES), device)
            for i, pixels in enumerate(shown.frames.cpu().numpy()):
                frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                frame.pts = start + i
                frame.time_base = Fraction(1, FRAME_RATE)
                container.mux(video.encode(frame))
        container.mux(video.encode())
        sound = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(clip.audio[None]), format="flt", layout="mono"
        )
        sound.sample_rate = SAMPLE_RATE_HZ
        sound.pts = 0
        container.mux(audio.encode(sound))
        container.mux(audio.encode())
