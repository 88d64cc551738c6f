"""The media clock: frames, samples and chunks, counted exactly from the session's start.

Integers and fractions only, so an hour or a month of audio shifts nothing. Knows no wall clock.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

from mirrorme_engines.manifest import Manifest


@dataclass(frozen=True)
class AudioWindow:
    """The samples that the audio encoder is given for one chunk, `[start, stop)`."""

    start_sample: int
    """Negative for the first chunks: samples before the session's start are zeros."""
    stop_sample: int
    phase: int
    """Where the chunk starts between two hops of the audio encoder, as `chunk % num_phases`."""


@dataclass(frozen=True)
class MediaClock:
    """Positions of one model's frames and chunks, in samples of the session's audio."""

    sample_rate_hz: int
    frame_rate: Fraction
    chunk_frames: int
    hop_samples: int
    past_samples: int
    window_samples: int
    num_phases: int

    @classmethod
    def of(cls, manifest: Manifest) -> MediaClock:
        """The clock of a model."""
        audio = manifest.audio
        return cls(
            sample_rate_hz=audio.sample_rate_hz,
            frame_rate=manifest.video.frame_rate,
            chunk_frames=manifest.chunk_frames,
            hop_samples=audio.hop_samples,
            past_samples=audio.past_samples,
            window_samples=audio.window_samples,
            num_phases=audio.num_phases,
        )

    @cached_property
    def samples_per_frame(self) -> Fraction:
        """2000/3 at 24 FPS and 16 kHz."""
        return self.sample_rate_hz / self.frame_rate

    # Asked for some hundred times a chunk: in integers it takes a tenth of the time.

    def first_sample(self, frame: int) -> int:
        """The sample at which a frame starts, rounded down."""
        num_samples, num_frames = self._ratio
        return frame * num_samples // num_frames

    def first_frame_from(self, sample: int) -> int:
        """The first frame that starts at a sample or after it.

        Also the number of frames that `sample` samples of audio make, and so the length of the
        video: a frame belongs to the audio that it starts in.
        """
        num_samples, num_frames = self._ratio
        return -(-sample * num_frames // num_samples)

    def num_chunks(self, num_frames: int) -> int:
        """Chunks that hold so many frames; the last one may be longer than they are."""
        return math.ceil(Fraction(num_frames, self.chunk_frames))

    def window(self, chunk: int) -> AudioWindow:
        """What the audio encoder sees for a chunk."""
        chunk_start = chunk * self.chunk_frames * self.samples_per_frame
        start = math.floor(chunk_start / self.hop_samples) * self.hop_samples - self.past_samples
        return AudioWindow(start, start + self.window_samples, chunk % self.num_phases)

    def samples_needed(self, chunk: int) -> int:
        """Samples from the session's start that must have come before a chunk can be made."""
        return max(
            self.window(chunk).stop_sample, self.first_sample((chunk + 1) * self.chunk_frames)
        )

    @cached_property
    def _ratio(self) -> tuple[int, int]:
        """So many samples are so many frames."""
        return self.samples_per_frame.as_integer_ratio()
