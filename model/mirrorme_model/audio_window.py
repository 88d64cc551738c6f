"""Which audio a chunk needs, and where in it the model looks: whole numbers and fractions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from mirrorme_model.audio_config import AudioConfig
from mirrorme_model.config import ModelConfig
from mirrorme_model.errors import ConfigError
from mirrorme_model.vae_config import FRAMES_PER_LATENT


@dataclass(frozen=True)
class AudioWindow:
    """The window that the audio encoder is given for a chunk.

    Chunk c starts at sample `s = c * chunk_samples`, a fraction. Its window starts at
    `floor(s / hop_samples) * hop_samples - past_samples`, so features of all windows lie on one
    grid; `phase = c % num_phases` says where between two points of the grid the chunk starts.

    *Slots* are the points in time, `slots_per_frame` a frame, that features are interpolated to.
    """

    hop_samples: int
    past_samples: int
    window_samples: int
    num_features: int
    """Features that the backbone makes of a window."""
    chunk_samples: Fraction
    slot_samples: Fraction
    past_slots: int
    """Slots before the chunk that its first latent frame sees."""
    chunk_slots: int
    feature_center_samples: Fraction
    """Where a feature lies, from its first sample."""

    @property
    def num_phases(self) -> int:
        """After so many chunks the grid and the chunks meet again."""
        return (self.chunk_samples / self.hop_samples).denominator

    def phase_samples(self, phase: int) -> Fraction:
        """From the grid to the start of a chunk of this phase."""
        return phase * self.chunk_samples % self.hop_samples

    def slot_positions(self, phase: int) -> list[Fraction]:
        """Where the slots of a chunk lie, in features from the window's start."""
        start = self.past_samples + self.phase_samples(phase)
        first, last = -self.past_slots, self.chunk_slots
        return [self.position(start, slot) for slot in range(first, last)]

    def position(self, start_samples: Fraction | int, slot: int) -> Fraction:
        """Where a slot lies, in features from the origin that `start_samples` is counted from.

        Args:
            start_samples: where slot 0 begins.
            slot: may be negative.
        """
        center = start_samples + (slot + Fraction(1, 2)) * self.slot_samples
        return (center - self.feature_center_samples) / self.hop_samples

    @classmethod
    def of(cls, config: ModelConfig) -> AudioWindow:
        """The window of a model.

        Raises:
            ConfigError: the window leaves out audio that the chunk's own frames need.
        """
        audio, backbone = config.audio, config.audio.backbone
        hop = backbone.hop_samples
        frame_samples = Fraction(
            audio.sample_rate_hz * config.video.frame_rate_denominator,
            config.video.frame_rate_numerator,
        )
        slots_per_latent = FRAMES_PER_LATENT * audio.slots_per_frame
        unplaced = cls(
            hop_samples=hop,
            past_samples=0,
            window_samples=0,
            num_features=0,
            chunk_samples=frame_samples * config.chunk_frames,
            slot_samples=frame_samples / audio.slots_per_frame,
            past_slots=past_slots(audio),
            chunk_slots=slots_per_latent * config.chunk.num_latents,
            feature_center_samples=Fraction(backbone.reach_samples, 2),
        )
        positions = [p for n in range(unplaced.num_phases) for p in unplaced.slot_positions(n)]
        first, last = math.floor(min(positions)), math.ceil(max(positions))
        if audio.band:
            past = -first + audio.band.past_features * backbone.num_layers
            past += backbone.pos_conv_kernel - 1
            last += sum(audio.band.lookahead_features)
        else:
            assert audio.window
            past = audio.window.past_features
            last += audio.window.lookahead_features
            if past < -first:
                raise ConfigError(f"audio.window.past_features is {past}: want at least {-first}")
        num_features = past + last + 1
        return cls(
            hop_samples=hop,
            past_samples=past * hop,
            window_samples=(num_features - 1) * hop + backbone.reach_samples,
            num_features=num_features,
            chunk_samples=unplaced.chunk_samples,
            slot_samples=unplaced.slot_samples,
            past_slots=unplaced.past_slots,
            chunk_slots=unplaced.chunk_slots,
            feature_center_samples=unplaced.feature_center_samples,
        )


def past_slots(audio: AudioConfig) -> int:
    """Slots before a latent frame that reach its tokens through the convolutions.

    A convolution of kernel 3 and stride 2 makes n outputs of 2n + 1 inputs; the first one, of
    stride 1, wants two more.
    """
    strided = len(audio.strided_widths)
    return 2**strided - 1 + 2
