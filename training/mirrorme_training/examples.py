"""Makes the portraits and the speech of `examples/` from nothing but this package."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import soxr
from numpy.typing import NDArray
from PIL import Image

from mirrorme_training import speech_festival
from mirrorme_training.portrait_pose import rest_pose, with_controls
from mirrorme_training.portrait_renderer import render
from mirrorme_training.portrait_sampler import sample_identity
from mirrorme_training.speech import SAMPLE_RATE_HZ

PORTRAIT_SEEDS = (69, 3, 28)
"""Seeds below 10,000 are kept for examples: training never draws them."""
PORTRAIT_SIZE_PX = 512
SPEECH_VOICE = "cmu_us_slt_arctic_hts"
SPEECH_TEXT = (
    "Hello, and welcome to Mirror Me. I began as a single picture. "
    "Bring me a portrait and a voice, and I will do the talking."
)
_SMILE = 0.22
_PEAK = 0.7
_MARGIN_S = 0.15
"""Silence kept before and after the speech."""


def make_portraits(folder: Path) -> list[Path]:
    """Writes `portrait_1.png` and so on, drawn at twice the size and reduced."""
    paths = []
    for number, seed in enumerate(PORTRAIT_SEEDS, start=1):
        pose = with_controls(rest_pose(1), mouthSmileLeft=_SMILE, mouthSmileRight=_SMILE)
        frames = render(sample_identity([seed]), pose, 2 * PORTRAIT_SIZE_PX).frames
        picture = Image.fromarray(frames[0].numpy()).resize(
            (PORTRAIT_SIZE_PX, PORTRAIT_SIZE_PX), Image.Resampling.LANCZOS
        )
        path = folder / f"portrait_{number}.png"
        picture.save(path, optimize=True)
        paths.append(path)
    return paths


def make_speech(folder: Path) -> Path:
    """Writes `speech.wav`, mono s16 at 16 kHz.

    Raises:
        SynthesizerMissing, SpeechError
    """
    speech = speech_festival.speak(SPEECH_TEXT, SPEECH_VOICE)
    samples = soxr.resample(speech.samples, speech.sample_rate_hz, SAMPLE_RATE_HZ)
    spoken = [phone for phone in speech.phones if phone.name]
    start = max(0.0, spoken[0].start_s - _MARGIN_S)
    end = spoken[-1].end_s + _MARGIN_S
    samples = samples[round(start * SAMPLE_RATE_HZ) : round(end * SAMPLE_RATE_HZ)]
    path = folder / "speech.wav"
    write_wave(path, samples * (_PEAK / np.abs(samples).max()))
    return path


def write_wave(path: Path, samples: NDArray[np.float32]) -> None:
    """Writes mono s16 at 16 kHz."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE_HZ)
        file.writeframes((samples.clip(-1, 1) * 32767).astype("<i2").tobytes())
