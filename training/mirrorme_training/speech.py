"""Speech with the times of its phones, and what can go wrong in making it."""

from __future__ import annotations

import shutil
import subprocess
import wave
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE_HZ = 16_000
Alphabet = Literal["arpabet", "ipa", "festival-it", "festival-ca"]


class SpeechError(Exception):
    """A synthesiser failed on this text and voice. Another text may work."""


class SynthesizerMissing(SpeechError):
    """A program or a voice is not installed. The message names the Debian package."""


@dataclass(frozen=True)
class Phone:
    """One speech sound, named in its speech's alphabet; "" is silence."""

    name: str
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Speech:
    """Speech as synthesised."""

    samples: NDArray[np.float32]
    """[N], -1 to 1"""
    sample_rate_hz: int
    phones: tuple[Phone, ...]
    """In order, without overlap; gaps are silence."""
    alphabet: Alphabet

    @property
    def duration_s(self) -> float:
        """Length of the samples."""
        return len(self.samples) / self.sample_rate_hz


def require_program(program: str, package: str) -> str:
    """Path of an installed program.

    Raises:
        SynthesizerMissing
    """
    path = shutil.which(program)
    if path is None:
        raise SynthesizerMissing(f"{program} is not installed: apt-get install {package}")
    return path


def run_program(command: list[str], folder: Path) -> str:
    """Runs a synthesiser in a folder of its own and returns what it printed.

    Raises:
        SpeechError: it failed or took longer than a minute.
    """
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=60, check=True
        )
    except subprocess.CalledProcessError as error:
        raise SpeechError(f"{command[0]} failed: {error.stderr.strip()[-300:]}") from error
    except subprocess.TimeoutExpired as error:
        raise SpeechError(f"{command[0]} did not end within a minute") from error
    return done.stdout


def read_wave(path: Path) -> tuple[NDArray[np.float32], int]:
    """Samples `[N]` and rate of a mono 16-bit WAV file.

    Raises:
        SpeechError: the synthesiser wrote none, or another format.
    """
    try:
        with wave.open(str(path)) as file:
            if file.getnchannels() != 1 or file.getsampwidth() != 2:
                raise SpeechError(f"{path.name} is not mono 16 bit")
            data = np.frombuffer(file.readframes(file.getnframes()), "<i2")
            return data.astype(np.float32) / np.float32(32768), file.getframerate()
    except (OSError, EOFError, wave.Error) as error:
        raise SpeechError(f"{path.name} cannot be read: {error}") from error


def phones_from_ends(ends: list[tuple[str, float]], silences: set[str]) -> tuple[Phone, ...]:
    """Phones from their names and end times, seconds."""
    phones, start = [], 0.0
    for name, end in ends:
        if end > start:
            phones.append(Phone("" if name in silences else name, start, end))
            start = end
    return tuple(phones)
