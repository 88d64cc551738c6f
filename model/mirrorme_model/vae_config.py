"""Configs of the video VAE: shapes and kinds of layers, no weights and no code that runs them.

One family of classes makes LTX-Video's VAE (0.9.5 to 0.9.8) and the light ones of small presets.
All keep its grid: a picture of 32 x 32 pixels becomes one latent pixel, 1 + 8k frames become 1 + k
latent frames of 128 channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from mirrorme_model.errors import ConfigError

Norm: TypeAlias = Literal["pixel", "none"]
Activation: TypeAlias = Literal["silu", "relu"]
Downsampling: TypeAlias = Literal["spatial", "temporal", "spatiotemporal"]

LATENT_CHANNELS = 128
SPATIAL_FACTOR = 32
FRAMES_PER_LATENT = 8
SKETCH_CELL_PX = 4
"""Side of the square of pixels that is one value of a hand sketch."""
SKETCHES_PER_LATENT = 4
"""One of every second frame."""
NUM_HANDS = 2
"""Left, then right."""
NUM_KEYPOINTS = 21
"""Of a hand, in MediaPipe's order."""
HAND_CHANNELS = FRAMES_PER_LATENT * NUM_HANDS * NUM_KEYPOINTS * 3
NUM_UPSAMPLINGS = 3
"""Of the decoder, each by 2 in time, height and width."""


@dataclass(frozen=True)
class EncoderConfig:
    """The causal encoder: stages of residual blocks, finest first, a downsampling between two."""

    widths: tuple[int, ...]
    """Channels of each stage."""
    num_blocks: tuple[int, ...]
    """Residual blocks of each stage."""
    temporal_kernels: tuple[int, ...]
    """Frames that a stage's convolutions see: one's own and those before it. 1: its own alone."""
    downsamplings: tuple[Downsampling, ...]
    """Between a stage and the next one; 8 in time and 32 / patch in space over all."""
    input_temporal_kernel: int = 3
    """Of the convolution before the first stage."""
    norm: Norm = "pixel"
    activation: Activation = "silu"

    def __post_init__(self) -> None:
        _check_stages("encoder", self.widths, self.num_blocks, self.temporal_kernels)
        _check_choice("encoder.norm", self.norm, get_args(Norm))
        _check_choice("encoder.activation", self.activation, get_args(Activation))
        _check_at_least("encoder.input_temporal_kernel", self.input_temporal_kernel, 1)
        if len(self.downsamplings) != len(self.widths) - 1:
            raise ConfigError(
                f"encoder.downsamplings has {len(self.downsamplings)} entries: "
                f"want {len(self.widths) - 1}, one between two stages"
            )
        for kind in self.downsamplings:
            _check_choice("encoder.downsamplings", kind, get_args(Downsampling))
        frames = 2 ** sum(kind != "spatial" for kind in self.downsamplings)
        if frames != FRAMES_PER_LATENT:
            raise ConfigError(
                f"encoder.downsamplings make {frames} frames a latent: want {FRAMES_PER_LATENT}"
            )
        for width, wider, kind in zip(
            self.widths, self.widths[1:], self.downsamplings, strict=False
        ):
            factor = downsampling_factor(kind)
            if wider % factor or width * factor % wider:
                raise ConfigError(
                    f"encoder.widths {width} -> {wider} do not fit a {kind} downsampling: the "
                    f"second must be a multiple of {factor} and divide {width * factor}"
                )

    @property
    def spatial_factor(self) -> int:
        """Of the downsamplings, without the patch."""
        return 2 ** sum(kind != "temporal" for kind in self.downsamplings)


@dataclass(frozen=True)
class DecoderConfig:
    """The decoder: stages of residual blocks, coarsest first, an upsampling (2, 2, 2) between two.

    A causal decoder sees latents up to the one it decodes; how many follows from its kernels. One
    that is not causal also sees later ones, and decodes a stream within a window that is chosen.
    """

    widths: tuple[int, ...]
    num_blocks: tuple[int, ...]
    temporal_kernels: tuple[int, ...]
    """Of each stage and the upsampling that leaves it; the last also of the output convolution."""
    input_temporal_kernel: int = 3
    norm: Norm = "pixel"
    activation: Activation = "silu"
    causal: bool = True
    upsample_residual: bool = False
    """True: an upsampling adds its rearranged input, as LTX-Video's does."""
    timestep: float | None = None
    """Decoding timestep that conditions the blocks; None: they are not conditioned."""
    noise_scale: float = 0.0
    """Share of fixed noise mixed into latents before they are decoded; only with a timestep."""
    window_context_latents: int | None = None
    """Latents before a chunk, for a decoder that is not causal; None otherwise."""
    window_lookahead_latents: int | None = None
    """Latents after a chunk, for a decoder that is not causal; None otherwise."""
    linear_input: bool = False
    """True: the last stage is also given what the linear path makes of the chunk."""
    flow: bool = False
    """True: frames are bent as the face code says (see `FaceFlow`)."""
    sketched_stages: tuple[int, ...] = (2, 3)
    """Those that see hand sketches, where hands are told."""
    hand_layer: bool = False
    """True: hands that are told are laid over frames in their shapes (see `HandLayer`)."""

    def __post_init__(self) -> None:
        _check_stages("decoder", self.widths, self.num_blocks, self.temporal_kernels)
        _check_choice("decoder.norm", self.norm, get_args(Norm))
        _check_choice("decoder.activation", self.activation, get_args(Activation))
        _check_at_least("decoder.input_temporal_kernel", self.input_temporal_kernel, 1)
        if len(self.widths) != NUM_UPSAMPLINGS + 1:
            raise ConfigError(
                f"decoder.widths has {len(self.widths)} entries: want {NUM_UPSAMPLINGS + 1}"
            )
        if self.upsample_residual:
            for width, next_width in zip(self.widths, self.widths[1:], strict=False):
                if width % 8 or 8 * next_width % width:
                    raise ConfigError(
                        f"decoder.widths {width} -> {next_width} do not fit upsample_residual: "
                        "the first must be a multiple of 8 and divide 8 times the second"
                    )
        if self.timestep is None and self.noise_scale:
            raise ConfigError("decoder.noise_scale wants a decoder.timestep")
        if not 0 <= self.noise_scale < 1:
            raise ConfigError(f"decoder.noise_scale is {self.noise_scale}: want 0 to 1, without 1")
        if not set(self.sketched_stages) <= set(range(len(self.widths))):
            raise ConfigError(
                f"decoder.sketched_stages are {self.sketched_stages}: want some of 0 to "
                f"{len(self.widths) - 1}"
            )
        if self.flow and (not self.causal or self.temporal_kernels[-1] > 1):
            raise ConfigError("decoder.flow wants a causal decoder whose last temporal kernel is 1")
        if self.hand_layer and (not self.causal or self.temporal_kernels[-1] > 1):
            raise ConfigError(
                "decoder.hand_layer wants a causal decoder whose last temporal kernel is 1"
            )
        if self.linear_input and (not self.causal or self.temporal_kernels[-1] > 1):
            raise ConfigError(
                "decoder.linear_input wants a causal decoder whose last temporal kernel is 1"
            )
        window = (self.window_context_latents, self.window_lookahead_latents)
        if self.causal:
            if window != (None, None):
                raise ConfigError("decoder.window_*_latents are for decoders that are not causal")
            return
        if None in window or min(w for w in window if w is not None) < 0:
            raise ConfigError("a decoder that is not causal wants decoder.window_*_latents >= 0")
        for kernel in (self.input_temporal_kernel, *self.temporal_kernels):
            if kernel % 2 == 0:
                raise ConfigError("a decoder that is not causal wants odd temporal kernels")

    @property
    def context_latents(self) -> int:
        """D: latents before a chunk that its frames depend on."""
        return self.context_with(0)

    @property
    def lookahead_latents(self) -> int:
        """L: latents after a chunk that `decode_chunk` is given."""
        return self.window_lookahead_latents or 0

    def context_with(self, lead_frames: int) -> int:
        """As `context_latents`, where so many frames before the chunk are made as well."""
        if self.window_context_latents is not None:
            return self.window_context_latents
        return self.stage_context_frames(lead_frames)[0] + self.input_temporal_kernel - 1

    def stage_context_frames(self, lead_frames: int = 0) -> tuple[int, ...]:
        """Frames before a chunk, at each stage's own rate, that its output depends on.

        A decoder that is not causal also sees as many after the chunk.
        """
        needed = lead_frames
        frames: list[int] = []
        for stage in reversed(range(len(self.widths))):
            reach = self.temporal_kernels[stage] - 1
            if not self.causal:
                reach //= 2
            last = stage == len(self.widths) - 1
            needed = needed if last else -(-needed // 2)
            needed += reach * (2 * self.num_blocks[stage] + 1)
            frames.append(needed)
        return tuple(reversed(frames))


@dataclass(frozen=True)
class VaeConfig:
    """Encoder, decoder and what they share."""

    encoder: EncoderConfig | None
    """None: the patch basis alone encodes."""
    decoder: DecoderConfig | None
    """None: the patch basis alone decodes."""
    latent_channels: int = LATENT_CHANNELS
    """Of all that the decoder takes."""
    face_channels: int = 0
    """Those after the pictures', which say in numbers what the face does (see `FaceCode`)."""
    hand_channels: int = 0
    """The last ones, which say where given hands are (see `hand_cues`): 0 or HAND_CHANNELS."""
    patch_px: int = 4
    """Side of the square of pixels that is channels to the encoder and the decoder."""
    patch_basis: bool = False
    """True: a linear path lies beside the networks (see `PatchBasis`)."""
    seam_step: float | None = None
    """The largest step of a pixel, of -1 to 1, from a latent's last frame to the next one's first
    that is spread over the later one's frames (see `smooth_seams`); 0: none is. Larger ones are
    movement. None: three levels of 255 where there is a linear path, whose frames have weights of
    their own, else 0."""

    def __post_init__(self) -> None:
        _check_at_least("face_channels", self.face_channels, 0)
        if self.hand_channels not in (0, HAND_CHANNELS):
            raise ConfigError(f"hand_channels is {self.hand_channels}: want 0 or {HAND_CHANNELS}")
        _check_at_least("latent_channels", self.latent_channels, self.cue_channels + 1)
        _check_at_least("patch_px", self.patch_px, 1)
        if not 0 <= self.largest_seam_step <= 2:
            raise ConfigError(f"seam_step is {self.seam_step}: want 0 to 2")
        if self.cue_channels and (self.decoder is None or not self.decoder.causal):
            raise ConfigError("face_channels and hand_channels want a causal decoder")
        if self.decoder is not None and self.decoder.flow and not self.face_channels:
            raise ConfigError("decoder.flow wants face_channels")
        if self.decoder is not None and self.decoder.hand_layer and not self.hand_channels:
            raise ConfigError("decoder.hand_layer wants hand_channels")
        if self.seam_step and self.decoder is not None and not self.decoder.causal:
            raise ConfigError("seam_step wants a causal decoder")
        if self.patch_basis and self.decoder is not None and not self.decoder.causal:
            raise ConfigError("patch_basis wants a causal decoder")
        if self.decoder is not None and self.decoder.linear_input and not self.patch_basis:
            raise ConfigError("decoder.linear_input wants patch_basis")
        for name, networks in (("encoder", self.encoder), ("decoder", self.decoder)):
            if networks is None and not self.patch_basis:
                raise ConfigError(f"{name} is null: that wants patch_basis")
        factors: dict[str, int] = {}
        if self.decoder is not None:
            factors["decoder"] = 2**NUM_UPSAMPLINGS
        if self.encoder is not None:
            factors["encoder"] = self.encoder.spatial_factor
        for name, factor in factors.items():
            if factor * self.patch_px != SPATIAL_FACTOR:
                raise ConfigError(
                    f"{name} and patch_px make {factor * self.patch_px} pixels a latent: "
                    f"want {SPATIAL_FACTOR}"
                )
        if SPATIAL_FACTOR % self.patch_px:
            raise ConfigError(f"patch_px is {self.patch_px}: want a divisor of {SPATIAL_FACTOR}")

    @property
    def picture_channels(self) -> int:
        """Those that are made of pixels, the first ones."""
        return self.latent_channels - self.cue_channels

    @property
    def cue_channels(self) -> int:
        """Those that tell the decoder what pictures say only roughly."""
        return self.face_channels + self.hand_channels

    @property
    def context_latents(self) -> int:
        """D: latents before a chunk that decoding it takes, its seam included."""
        own = 0 if self.decoder is None else self.decoder.context_with(self.lead_frames)
        return max(own, self.lead_frames)

    @property
    def largest_seam_step(self) -> float:
        """As `seam_step`, never None."""
        if self.seam_step is None:
            return 6 / 255 if self.patch_basis else 0.0
        return self.seam_step

    @property
    def lead_frames(self) -> int:
        """Frames before a chunk that are made with it: 1 where seams are smoothed."""
        return 1 if self.largest_seam_step else 0

    @property
    def lookahead_latents(self) -> int:
        """L: latents after a chunk that decoding it takes."""
        return 0 if self.decoder is None else self.decoder.lookahead_latents


def downsampling_factor(kind: Downsampling) -> int:
    """How many positions of the finer stage a downsampling joins to one."""
    match kind:
        case "spatial":
            return 4
        case "temporal":
            return 2
        case "spatiotemporal":
            return 8


def _check_stages(
    where: str, widths: tuple[int, ...], num_blocks: tuple[int, ...], kernels: tuple[int, ...]
) -> None:
    if not len(widths) == len(num_blocks) == len(kernels) > 0:
        raise ConfigError(
            f"{where}.widths, num_blocks and temporal_kernels have {len(widths)}, "
            f"{len(num_blocks)} and {len(kernels)} entries: want one a stage in each"
        )
    for name, values, least in (
        ("widths", widths, 1),
        ("num_blocks", num_blocks, 0),
        ("temporal_kernels", kernels, 1),
    ):
        for value in values:
            _check_at_least(f"{where}.{name}", value, least)


def _check_at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise ConfigError(f"{name} is {value}: want at least {least}")


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ConfigError(f"{name} is {value!r}: want one of {', '.join(choices)}")
