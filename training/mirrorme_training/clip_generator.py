"""Training clips from seeds: a person, how they move, and the speech that they say."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import soxr
import torch
from numpy.typing import NDArray

from mirrorme_training.motion_noise import FRAME_RATE
from mirrorme_training.motion_pose import draw_manner, make_pose
from mirrorme_training.portrait_identity import Identity
from mirrorme_training.portrait_pose import Pose
from mirrorme_training.portrait_renderer import RenderedFrames, render
from mirrorme_training.portrait_sampler import sample_identity
from mirrorme_training.speech import SAMPLE_RATE_HZ, Phone, Speech, SpeechError, SynthesizerMissing
from mirrorme_training.speech_augment import AugmentConfig, augment, warp
from mirrorme_training.speech_text import sentence
from mirrorme_training.speech_visemes import VisemeSpan, viseme_spans
from mirrorme_training.speech_voices import Voice, all_voices, is_installed, speak

FIRST_TRAINING_SEED = 10_000
"""Identities below are kept for examples and evaluation."""
_MAX_TRIES = 4


@dataclass(frozen=True)
class ClipConfig:
    """What clips are made of."""

    num_frames: int
    framing: Literal["half_body", "close_up"] = "half_body"
    hands: bool = True
    """False: no hands in any clip."""
    idle: float = 0.08
    """Share of clips without speech."""
    exercised: float = 0.0
    """Share of clips without speech in which controls move by chance besides."""
    voices: tuple[Voice, ...] | None = None
    """None: all that are installed."""
    augment: AugmentConfig | None = field(default_factory=AugmentConfig)
    """None: clean speech."""

    def __post_init__(self) -> None:
        if self.num_frames < FRAME_RATE // 2:
            raise ValueError(f"num_frames is {self.num_frames}: want at least {FRAME_RATE // 2}")


@dataclass(frozen=True)
class Clip:
    """One clip. Frames are painted when asked for."""

    identity: Identity
    """[1]"""
    pose: Pose
    """[T]"""
    audio: NDArray[np.float32]
    """[N] 16 kHz, as heard; frame n starts at sample n * 2000 / 3"""
    clean_audio: NDArray[np.float32]
    """[N] before rooms, noise and lines"""
    visemes: tuple[VisemeSpan, ...]
    texts: tuple[str, ...]
    voice: Voice | None
    """None: no speech."""

    def render(
        self, size_px: int, frames: slice = slice(None), device: torch.device | str = "cpu"
    ) -> RenderedFrames:
        """Some of the frames, with the truth about them."""
        return render(self.identity.to(device), self.pose[frames].to(device), size_px)


class ClipGenerator:
    """Makes clip after clip; the same seed and config give the same clip wherever it runs."""

    def __init__(self, config: ClipConfig) -> None:
        """
        Raises:
            SynthesizerMissing: no synthesiser is installed, and not all clips are idle.
        """
        self._config = config
        voices = [v for v in all_voices() if is_installed(v)] if config.voices is None else []
        self._voices = tuple(voices) if config.voices is None else config.voices
        if not self._voices and config.idle + config.exercised < 1:
            raise SynthesizerMissing(
                "no speech synthesiser is installed: apt-get install espeak-ng flite festival"
            )

    def make(self, seed: int, identity_seed: int | None = None) -> Clip:
        """One clip.

        Args:
            seed: of speech and movement.
            identity_seed: of the person; None: drawn from `seed`, among those for training.

        Raises:
            SpeechError: the synthesiser fails again and again.
        """
        config, random = self._config, np.random.default_rng(seed)
        if identity_seed is None:
            identity_seed = FIRST_TRAINING_SEED + int(random.integers(2**40))
        drawn = random.random()
        exercised = config.idle <= drawn < config.idle + config.exercised
        idle = drawn < config.idle or exercised
        voice = None if idle else self._pick_voice(random)
        track = _Track(config.num_frames)
        if voice is not None:
            self._fill(track, voice, random)
        manner = draw_manner(random)
        if not config.hands:
            manner = dataclasses.replace(manner, hands="none")
        manner = dataclasses.replace(manner, exercise=exercised)
        clean = track.samples()
        spans = tuple(track.spans)
        pose = make_pose(spans, clean, config.num_frames, manner, random)
        return Clip(
            identity=sample_identity([identity_seed], close_up=config.framing == "close_up"),
            pose=pose,
            audio=self._augmented(clean, random),
            clean_audio=clean,
            visemes=spans,
            texts=tuple(track.texts),
            voice=voice,
        )

    def _pick_voice(self, random: np.random.Generator) -> Voice:
        """Engines first, so that the one with most voices is not all that is heard."""
        engines = sorted({voice.engine for voice in self._voices})
        engine = engines[int(random.integers(len(engines)))]
        own = [voice for voice in self._voices if voice.engine == engine]
        return own[int(random.integers(len(own)))]

    def _fill(self, track: _Track, voice: Voice, random: np.random.Generator) -> None:
        factor = float(random.uniform(0.88, 1.16))
        track.pause(float(random.choice([0.1, random.uniform(0.1, 1.2)])))
        failures = 0
        while not track.full:
            text = sentence(voice.language, random)
            try:
                speech = speak(text, voice, random)
            except SynthesizerMissing:
                raise
            except SpeechError:
                failures += 1
                if failures >= _MAX_TRIES:
                    raise
                continue
            track.add(warp(speech, factor), text)
            track.pause(float(random.exponential(0.5)))

    def _augmented(
        self, clean: NDArray[np.float32], random: np.random.Generator
    ) -> NDArray[np.float32]:
        config = self._config.augment
        if config is None:
            return clean
        if not clean.any():
            level = 10 ** (random.uniform(-75, -38) / 20)
            return (random.standard_normal(len(clean)) * level).astype(np.float32)
        return augment(clean, random, config)


class _Track:
    """Speech laid end to end until the clip is full."""

    def __init__(self, num_frames: int) -> None:
        self._num_samples = num_frames * SAMPLE_RATE_HZ // FRAME_RATE
        self._samples = np.zeros(self._num_samples, np.float32)
        self._next = 0
        self.spans: list[VisemeSpan] = []
        self.texts: list[str] = []

    @property
    def full(self) -> bool:
        return self._next >= self._num_samples

    def pause(self, duration_s: float) -> None:
        """Silence, which the lips rest in: a gap between spans is none to them."""
        start = self._next
        self._next += int(duration_s * SAMPLE_RATE_HZ)
        self.spans.append(VisemeSpan("sil", start / SAMPLE_RATE_HZ, self._next / SAMPLE_RATE_HZ))

    def add(self, speech: Speech, text: str) -> None:
        samples = soxr.resample(speech.samples, speech.sample_rate_hz, SAMPLE_RATE_HZ)
        peak = float(np.abs(samples).max()) + 1e-9
        start = self._next
        part = samples[: self._num_samples - start] * np.float32(0.6 / peak)
        self._samples[start : start + len(part)] = part
        offset = start / SAMPLE_RATE_HZ
        phones = tuple(
            Phone(phone.name, phone.start_s + offset, phone.end_s + offset)
            for phone in speech.phones
        )
        self.spans.extend(viseme_spans(phones, speech.alphabet))
        self.texts.append(text)
        self._next = start + len(samples)

    def samples(self) -> NDArray[np.float32]:
        return self._samples
