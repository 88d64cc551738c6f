"""What a folder of footage is asked to hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from mirrorme_model.vae_config import SPATIAL_FACTOR

from mirrorme_training.footage.errors import FootageError
from mirrorme_training.motion_noise import FRAME_RATE

Framing: TypeAlias = Literal["close_up", "half_body"]
FRAMINGS: tuple[Framing, ...] = ("close_up", "half_body")


@dataclass(frozen=True)
class FootageConfig:
    """Stored in the folder's index; a folder holds clips of one config."""

    size_px: int = 256
    """Of a clip's side."""
    framings: tuple[Framing, ...] = FRAMINGS
    """Each makes clips of its own from the same footage."""
    min_s: float = 5.5
    """A window of k latents needs (k + 1) / 3 seconds: 5.33 with k = 15."""
    max_s: float = 12.0
    keep_silent: bool = False
    """Keep clips of people who are silent and keep their mouth still."""
    min_pixels: float = 0.6
    """Pixels of the source to one of the clip, along a side."""
    max_turn_degrees: float = 40.0
    """Of the head, away from the camera."""
    min_sharpness: float = 0.08
    """See `picture_quality.sharpness`."""
    min_speech: float = 0.3
    """Share of a clip's time."""
    min_voice_db: float = 12.0
    """Loud moments of speech over quiet ones: the voice over music and noise."""
    min_sync: float = 2.5
    """Height of the correlation's peak, in deviations of what chance gives."""
    max_lag_frames: int = 3
    """Between mouth and voice."""
    shard_bytes: int = 256 * 2**20

    def __post_init__(self) -> None:
        if self.size_px < SPATIAL_FACTOR or self.size_px % SPATIAL_FACTOR:
            raise FootageError(f"size is {self.size_px}: want a multiple of {SPATIAL_FACTOR}")
        if not 1 <= self.min_s <= self.max_s <= 60:
            raise FootageError(
                f"clips of {self.min_s:g} to {self.max_s:g} s: want 1 <= shortest <= longest <= 60"
            )
        if not self.framings:
            raise FootageError("no framing is asked for")

    @property
    def min_frames(self) -> int:
        """Of a clip."""
        return -(-round(self.min_s * FRAME_RATE * 1000) // 1000)

    @property
    def max_frames(self) -> int:
        """Of a clip."""
        return int(self.max_s * FRAME_RATE)
