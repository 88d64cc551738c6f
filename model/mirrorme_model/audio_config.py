"""Settings of the audio encoder: backbone, what it may see, and how tokens are made of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from mirrorme_model.errors import ConfigError
from mirrorme_model.log_mel import FEATURE_HOP_SAMPLES, FEATURE_REACH_SAMPLES


@dataclass(frozen=True)
class BackboneConfig:
    """A wav2vec2 (arXiv 2006.11477), in the terms of `transformers.Wav2Vec2Config`."""

    frontend: Literal["waveform", "log_mel"]
    """`log_mel`: fixed bands in place of the convolutions (see `LogMel`), which then are one that
    states its channels, reach and hop."""

    conv_dim: tuple[int, ...]
    conv_kernel: tuple[int, ...]
    conv_stride: tuple[int, ...]
    conv_bias: bool
    feature_norm: Literal["layer", "group"]
    """`group` normalises over the whole window (wav2vec2-base)."""
    hidden_size: int
    num_layers: int
    num_heads: int
    intermediate_size: int
    pos_conv_kernel: int
    pos_conv_groups: int
    stable_layer_norm: bool
    """True: pre-norm layers (wav2vec2-large)."""

    def __post_init__(self) -> None:
        """Checks what the type of each field cannot."""
        if not len(self.conv_dim) == len(self.conv_kernel) == len(self.conv_stride) > 0:
            raise ConfigError(
                "conv_dim, conv_kernel and conv_stride differ in length, or are empty"
            )
        if self.frontend == "log_mel":
            geometry = (self.conv_kernel, self.conv_stride)
            if geometry != ((FEATURE_REACH_SAMPLES,), (FEATURE_HOP_SAMPLES,)):
                raise ConfigError(
                    f"conv_kernel and conv_stride are {geometry}: a log_mel frontend has "
                    f"({FEATURE_REACH_SAMPLES},) and ({FEATURE_HOP_SAMPLES},)"
                )
            if self.conv_dim[0] % 2:
                raise ConfigError(f"conv_dim is {self.conv_dim}: log_mel wants an even number")
        if self.hidden_size % self.num_heads:
            raise ConfigError(
                f"hidden_size {self.hidden_size} is not a multiple of num_heads {self.num_heads}"
            )
        if self.hidden_size % self.pos_conv_groups:
            raise ConfigError(
                f"hidden_size {self.hidden_size} is not a multiple of pos_conv_groups "
                f"{self.pos_conv_groups}"
            )

    @property
    def hop_samples(self) -> int:
        """Samples from one feature to the next."""
        return math.prod(self.conv_stride)

    @property
    def reach_samples(self) -> int:
        """Samples that one feature is computed from."""
        reach, step = 1, 1
        for kernel, stride in zip(self.conv_kernel, self.conv_stride, strict=True):
            reach += (kernel - 1) * step
            step *= stride
        return reach


@dataclass(frozen=True)
class BandConfig:
    """Every attention layer sees a band, so windows of a clip agree with the whole clip."""

    past_features: int
    """How far each layer sees back."""
    lookahead_features: tuple[int, ...]
    """How far each layer sees ahead, one entry a layer."""

    def __post_init__(self) -> None:
        """Checks what the type of each field cannot."""
        if self.past_features < 0 or min(self.lookahead_features, default=0) < 0:
            raise ConfigError("past_features and lookahead_features must be at least 0")


@dataclass(frozen=True)
class WindowConfig:
    """Full attention inside a fixed window; the window is the definition (published wav2vec2)."""

    past_features: int
    """Features before the chunk."""
    lookahead_features: int
    """Features after the chunk."""
    normalize: bool
    """True: each window is brought to mean 0, variance 1, as published checkpoints expect."""

    def __post_init__(self) -> None:
        """Checks what the type of each field cannot."""
        if self.past_features < 0 or self.lookahead_features < 0:
            raise ConfigError("past_features and lookahead_features must be at least 0")


@dataclass(frozen=True)
class AudioConfig:
    """The audio encoder. Exactly one of `band` and `window` is given."""

    sample_rate_hz: int
    backbone: BackboneConfig
    band: BandConfig | None
    window: WindowConfig | None
    slots_per_frame: int
    """Points in time, evenly spread over a video frame, that features are interpolated to."""
    local_width: int
    """Width of each token after the first convolution."""
    strided_widths: tuple[int, ...]
    """Width after each stride-2 convolution, from slots to latent frames; the last is a token's."""
    num_speech_tokens: int
    """Tokens of a latent frame that carry speech; one learned padding token joins them."""

    def __post_init__(self) -> None:
        """Checks what the type of each field cannot."""
        if (self.band is None) == (self.window is None):
            raise ConfigError("exactly one of band and window must be given")
        if self.band and len(self.band.lookahead_features) != self.backbone.num_layers:
            raise ConfigError(
                f"band.lookahead_features has {len(self.band.lookahead_features)} entries: want "
                f"backbone.num_layers = {self.backbone.num_layers}"
            )
        if self.band and self.backbone.feature_norm != "layer":
            raise ConfigError(
                'backbone.feature_norm "group" depends on the whole window: band wants "layer"'
            )
        if self.slots_per_frame < 1 or self.num_speech_tokens < 1:
            raise ConfigError("slots_per_frame and num_speech_tokens must be at least 1")

    @property
    def num_tokens(self) -> int:
        """K: tokens a latent frame, padding included."""
        return self.num_speech_tokens + 1

    @property
    def token_width(self) -> int:
        """C: channels of a token."""
        return self.strided_widths[-1]
