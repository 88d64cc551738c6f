"""Settings of a model: one frozen dataclass a component, stored inside every checkpoint."""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass
from typing import Literal

from mirrorme_model.audio_config import AudioConfig
from mirrorme_model.errors import ConfigError
from mirrorme_model.strict_json import dump_json, parse_json
from mirrorme_model.vae_config import (
    FRAMES_PER_LATENT,
    HAND_CHANNELS,
    SPATIAL_FACTOR,
    VaeConfig,
)

CODED_FRAMES = (3, 7)
"""Of a latent's 8: those at which a face code holds the controls."""


@dataclass(frozen=True)
class VideoConfig:
    """Frames: size and rate."""

    height_px: int
    width_px: int
    frame_rate_numerator: int = 24
    frame_rate_denominator: int = 1

    def __post_init__(self) -> None:
        """Checks what the type of each field cannot."""
        for name in ("height_px", "width_px"):
            if (value := getattr(self, name)) < SPATIAL_FACTOR or value % SPATIAL_FACTOR:
                raise ConfigError(
                    f"{name} is {value}: want a positive multiple of {SPATIAL_FACTOR}"
                )
        if self.frame_rate_numerator < 1 or self.frame_rate_denominator < 1:
            raise ConfigError("the frame rate must be positive")

    @property
    def latent_height(self) -> int:
        """h: rows of tokens."""
        return self.height_px // SPATIAL_FACTOR

    @property
    def latent_width(self) -> int:
        """w: columns of tokens."""
        return self.width_px // SPATIAL_FACTOR

    @property
    def tokens_per_latent(self) -> int:
        """Tokens of one latent frame."""
        return self.latent_height * self.latent_width


@dataclass(frozen=True)
class ChunkConfig:
    """What one denoiser call makes and sees, in latent frames."""

    num_latents: int
    motion_latents: int
    """Latents just before the chunk that are given as clean tokens."""
    identity_distance_latents: int
    """How long before the chunk's start the portrait's tokens are placed in time."""

    def __post_init__(self) -> None:
        """Checks what the type of each field cannot."""
        if self.num_latents < 1 or self.motion_latents < 1:
            raise ConfigError("num_latents and motion_latents must be at least 1")
        if self.identity_distance_latents <= self.motion_latents:
            raise ConfigError(
                f"identity_distance_latents is {self.identity_distance_latents}: want more than "
                f"motion_latents = {self.motion_latents}"
            )


@dataclass(frozen=True)
class TextConfig:
    """LTX-Video's text cross-attention. The prompt is fixed, a parameter of the model."""

    caption_channels: int
    num_prompt_tokens: int

    def __post_init__(self) -> None:
        """Checks what the type of each field cannot."""
        if self.caption_channels < 1 or self.num_prompt_tokens < 1:
            raise ConfigError("caption_channels and num_prompt_tokens must be at least 1")


@dataclass(frozen=True)
class DitConfig:
    """LTX-Video's transformer (arXiv 2501.00103), and where audio enters it."""

    num_layers: int
    num_heads: int
    head_dim: int
    text: TextConfig | None
    """None: no text cross-attention."""
    audio_layers: tuple[int, ...]
    """Blocks that an audio adapter follows."""
    anchor: bool = False
    """True: the transformer corrects a guess from portrait and motion (see `Anchor`)."""

    def __post_init__(self) -> None:
        """Checks what the type of each field cannot."""
        if min(self.num_layers, self.num_heads, self.head_dim) < 1:
            raise ConfigError("num_layers, num_heads and head_dim must be at least 1")
        if self.width < 6 or self.head_dim % 2:
            raise ConfigError(
                f"head_dim is {self.head_dim} of {self.num_heads} heads: want it even, and a width "
                "of at least 6"
            )
        if sorted(set(self.audio_layers)) != list(self.audio_layers):
            raise ConfigError(f"audio_layers {self.audio_layers} are not in ascending order")
        if self.audio_layers and not 0 <= self.audio_layers[0] <= self.audio_layers[-1] < (
            self.num_layers
        ):
            raise ConfigError(
                f"audio_layers {self.audio_layers} are not within {self.num_layers} layers"
            )

    @property
    def width(self) -> int:
        """D: channels of a token."""
        return self.num_heads * self.head_dim


@dataclass(frozen=True)
class HandConfig:
    """The hand encoder."""

    sigma_tokens: float
    """Reach of a keypoint, in tokens (standard deviation)."""
    hidden_width: int

    def __post_init__(self) -> None:
        """Checks what the type of each field cannot."""
        if self.sigma_tokens <= 0 or self.hidden_width < 1:
            raise ConfigError("sigma_tokens and hidden_width must be positive")


@dataclass(frozen=True)
class RangeConfig:
    """An inclusive range with its default."""

    min: float
    max: float
    default: float

    def __post_init__(self) -> None:
        """Checks what the type of each field cannot."""
        if not self.min <= self.default <= self.max or self.min == self.max:
            raise ConfigError(f"range {self.min} to {self.max} with default {self.default}")


@dataclass(frozen=True)
class ControlConfig:
    """One facial control."""

    name: str
    """ARKit blendshape, or head_yaw, head_pitch, head_roll, gaze_x, gaze_y, breath."""
    unit: Literal["ratio", "degree"]
    range: RangeConfig


@dataclass(frozen=True)
class ControlsConfig:
    """The facial controls, in the order of the `controls` tensor."""

    controls: tuple[ControlConfig, ...]
    hidden_width: int

    def __post_init__(self) -> None:
        """Checks what the type of each field cannot."""
        names = [control.name for control in self.controls]
        if not names or len(set(names)) != len(names):
            raise ConfigError("controls must be there, with names that differ")
        if self.hidden_width < 1:
            raise ConfigError(f"hidden_width is {self.hidden_width}: want at least 1")


@dataclass(frozen=True)
class LipsConfig:
    """By how much further than heard lips close in what the decoder is told.

    A decoder that has not learned enough draws lips that close for a frame or two as if they only
    came nearer. Set by `publish`; training sees none of it.
    """

    overshoot: float = 0.0
    """Lips that are closer than about them in time are so many times more so."""
    closer_ratio: float = 0.0
    """Taken off the opening over the mouth's width, always."""

    def __post_init__(self) -> None:
        """Checks what the type of each field cannot."""
        if self.overshoot < 0 or self.closer_ratio < 0:
            raise ConfigError("lips.overshoot and lips.closer_ratio must be at least 0")


@dataclass(frozen=True)
class ModelConfig:
    """One model, whole."""

    preset: str
    """Name of the preset it is of."""
    video: VideoConfig
    chunk: ChunkConfig
    dit: DitConfig
    audio: AudioConfig
    hands: HandConfig | None
    """None: hand keypoints have no effect."""
    controls: ControlsConfig
    expression: RangeConfig
    """Strength of speech."""
    guidance: RangeConfig | None
    """Strength of distilled guidance; None: the denoiser has no `guidance` input."""
    sigmas: tuple[float, ...]
    """Noise levels of the sampler's steps, from 1 down to 0; one more than there are steps."""
    vae: VaeConfig
    lips: LipsConfig = LipsConfig()

    def __post_init__(self) -> None:
        """Checks settings that depend on each other."""
        if len(self.sigmas) < 2 or self.sigmas[0] != 1 or self.sigmas[-1] != 0:
            raise ConfigError(f"sigmas {self.sigmas} do not go from 1 to 0")
        if any(b >= a for a, b in itertools.pairwise(self.sigmas)):
            raise ConfigError(f"sigmas {self.sigmas} do not fall")
        face = face_channels(len(self.controls.controls))
        if self.vae.face_channels not in (0, face):
            raise ConfigError(f"vae.face_channels is {self.vae.face_channels}: want 0 or {face}")
        if self.vae.hand_channels and self.hands is None:
            raise ConfigError("vae.hand_channels want hands")
        slots = FRAMES_PER_LATENT * self.audio.slots_per_frame
        if 2 ** len(self.audio.strided_widths) != slots:
            raise ConfigError(
                f"audio.strided_widths has {len(self.audio.strided_widths)} entries, a stride of "
                f"{2 ** len(self.audio.strided_widths)}: want {slots}, the slots of a latent frame"
            )

    @property
    def num_steps(self) -> int:
        """Denoising steps a chunk."""
        return len(self.sigmas) - 1

    @property
    def chunk_frames(self) -> int:
        """Frames that one chunk makes."""
        return self.chunk.num_latents * FRAMES_PER_LATENT

    def with_cues(self) -> ModelConfig:
        """The same with channels of the face and, if it knows hands, of them; the decoder bends
        frames by the face's, sees hands in all of its stages and lays them over frames."""
        face = face_channels(len(self.controls.controls))
        hands = HAND_CHANNELS if self.hands else 0
        total = self.vae.picture_channels + face + hands
        decoder = self.vae.decoder
        vae = dataclasses.replace(
            self.vae,
            latent_channels=total,
            face_channels=face,
            hand_channels=hands,
            decoder=decoder
            and dataclasses.replace(
                decoder,
                flow=True,
                sketched_stages=tuple(range(len(decoder.widths))),
                hand_layer=hands > 0,
            ),
        )
        return dataclasses.replace(self, vae=vae)

    def to_json(self) -> str:
        """One line, read back by `from_json`."""
        return dump_json(self)

    @classmethod
    def from_json(cls, text: str) -> ModelConfig:
        """Reads what `to_json` wrote.

        Raises:
            ConfigError: naming the setting that is unknown, missing, or not supported.
        """
        return parse_json(cls, text, "config")


def face_channels(num_controls: int) -> int:
    """E: channels of a face code."""
    return FRAMES_PER_LATENT + len(CODED_FRAMES) * num_controls


def coded_channels(control: int, num_controls: int) -> list[int]:
    """Where a face code holds one control, by its place in the config."""
    return [FRAMES_PER_LATENT + k * num_controls + control for k in range(len(CODED_FRAMES))]
