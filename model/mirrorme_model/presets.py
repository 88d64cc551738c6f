"""The presets: frozen configs of the one model definition."""

from __future__ import annotations

import dataclasses

from mirrorme_model.audio_config import AudioConfig, BackboneConfig, BandConfig, WindowConfig
from mirrorme_model.config import (
    ChunkConfig,
    ControlConfig,
    ControlsConfig,
    DitConfig,
    HandConfig,
    ModelConfig,
    RangeConfig,
    TextConfig,
    VideoConfig,
)
from mirrorme_model.errors import ConfigError
from mirrorme_model.log_mel import FEATURE_HOP_SAMPLES, FEATURE_REACH_SAMPLES
from mirrorme_model.vae_presets import demo_vae_config, ltx_vae_config, tiny_vae_config

PRESETS = ("tiny", "demo", "ltx-2b")

BLENDSHAPES = (
    "jawOpen",
    "jawForward",
    "jawLeft",
    "jawRight",
    "mouthClose",
    "mouthFunnel",
    "mouthPucker",
    "mouthSmileLeft",
    "mouthSmileRight",
    "mouthFrownLeft",
    "mouthFrownRight",
    "mouthStretchLeft",
    "mouthStretchRight",
    "mouthPressLeft",
    "mouthPressRight",
    "browInnerUp",
    "browDownLeft",
    "browDownRight",
    "browOuterUpLeft",
    "browOuterUpRight",
    "eyeBlinkLeft",
    "eyeBlinkRight",
    "eyeSquintLeft",
    "eyeSquintRight",
    "eyeWideLeft",
    "eyeWideRight",
    "cheekPuff",
    "noseSneerLeft",
    "noseSneerRight",
)
"""The ARKit blendshapes served, left and right as the person's own."""

_CONV_KERNEL = (10, 3, 3, 3, 3, 2, 2)
_CONV_STRIDE = (5, 2, 2, 2, 2, 2, 2)


def preset(
    name: str,
    *,
    width_px: int | None = None,
    height_px: int | None = None,
    chunk_latents: int | None = None,
) -> ModelConfig:
    """The config of a preset.

    Args:
        name: one of `PRESETS`.
        width_px: of the frames; None: the preset's own. A multiple of 32.
        height_px: as `width_px`.
        chunk_latents: latent frames a chunk; None: the preset's own.

    Raises:
        ConfigError: the name is unknown, or a size is not supported.
    """
    match name:
        case "tiny":
            config = _tiny().with_cues()
        case "demo":
            config = _demo().with_cues()
        case "ltx-2b":
            config = _ltx_2b()
        case _:
            raise ConfigError(f"preset {name!r} is unknown: want one of {', '.join(PRESETS)}")
    video = dataclasses.replace(
        config.video,
        width_px=config.video.width_px if width_px is None else width_px,
        height_px=config.video.height_px if height_px is None else height_px,
    )
    num_latents = config.chunk.num_latents if chunk_latents is None else chunk_latents
    chunk = dataclasses.replace(config.chunk, num_latents=num_latents)
    return dataclasses.replace(config, video=video, chunk=chunk)


def _controls(hidden_width: int) -> ControlsConfig:
    ratio = RangeConfig(min=0.0, max=1.0, default=0.0)
    degrees = RangeConfig(min=-30.0, max=30.0, default=0.0)
    both_ways = RangeConfig(min=-1.0, max=1.0, default=0.0)
    return ControlsConfig(
        controls=(
            *(ControlConfig(name, "ratio", ratio) for name in BLENDSHAPES),
            *(
                ControlConfig(name, "degree", degrees)
                for name in ("head_yaw", "head_pitch", "head_roll")
            ),
            *(ControlConfig(name, "ratio", both_ways) for name in ("gaze_x", "gaze_y", "breath")),
        ),
        hidden_width=hidden_width,
    )


def _tiny() -> ModelConfig:
    return ModelConfig(
        preset="tiny",
        video=VideoConfig(height_px=64, width_px=64),
        chunk=ChunkConfig(num_latents=1, motion_latents=1, identity_distance_latents=8),
        dit=DitConfig(
            num_layers=2, num_heads=2, head_dim=16, text=None, audio_layers=(0, 1), anchor=True
        ),
        audio=AudioConfig(
            sample_rate_hz=16000,
            backbone=BackboneConfig(
                frontend="waveform",
                conv_dim=(8, 8, 8, 8, 16, 16, 16),
                conv_kernel=_CONV_KERNEL,
                conv_stride=_CONV_STRIDE,
                conv_bias=True,
                feature_norm="layer",
                hidden_size=32,
                num_layers=2,
                num_heads=2,
                intermediate_size=64,
                pos_conv_kernel=8,
                pos_conv_groups=4,
                stable_layer_norm=True,
            ),
            band=BandConfig(past_features=8, lookahead_features=(2, 1)),
            window=None,
            slots_per_frame=1,
            local_width=8,
            strided_widths=(16, 16, 16),
            num_speech_tokens=2,
        ),
        hands=HandConfig(sigma_tokens=1.0, hidden_width=16),
        controls=_controls(hidden_width=16),
        expression=RangeConfig(min=0.0, max=2.0, default=1.0),
        guidance=None,
        sigmas=(1.0, 0.5, 0.0),
        vae=tiny_vae_config(),
    )


def _demo() -> ModelConfig:
    return ModelConfig(
        preset="demo",
        video=VideoConfig(height_px=256, width_px=256),
        chunk=ChunkConfig(num_latents=1, motion_latents=1, identity_distance_latents=8),
        dit=DitConfig(
            num_layers=6,
            num_heads=4,
            head_dim=64,
            text=None,
            audio_layers=(0, 1, 2, 3, 4),
            anchor=True,
        ),
        audio=AudioConfig(
            sample_rate_hz=16000,
            backbone=BackboneConfig(
                frontend="log_mel",
                conv_dim=(64,),
                conv_kernel=(FEATURE_REACH_SAMPLES,),
                conv_stride=(FEATURE_HOP_SAMPLES,),
                conv_bias=False,
                feature_norm="layer",
                hidden_size=192,
                num_layers=4,
                num_heads=4,
                intermediate_size=768,
                pos_conv_kernel=16,
                pos_conv_groups=8,
                stable_layer_norm=True,
            ),
            band=BandConfig(past_features=14, lookahead_features=(2, 2, 2, 0)),
            window=None,
            slots_per_frame=2,
            local_width=48,
            strided_widths=(64, 96, 128, 128),
            num_speech_tokens=4,
        ),
        hands=HandConfig(sigma_tokens=1.0, hidden_width=96),
        controls=_controls(hidden_width=96),
        expression=RangeConfig(min=0.0, max=2.0, default=1.0),
        guidance=None,
        sigmas=(1.0, 0.0),
        vae=demo_vae_config(),
    )


def _ltx_2b() -> ModelConfig:
    return ModelConfig(
        preset="ltx-2b",
        video=VideoConfig(height_px=512, width_px=512),
        chunk=ChunkConfig(num_latents=3, motion_latents=2, identity_distance_latents=8),
        dit=DitConfig(
            num_layers=28,
            num_heads=32,
            head_dim=64,
            text=TextConfig(caption_channels=4096, num_prompt_tokens=32),
            audio_layers=(0, 4, 8, 12, 16, 20, 24, 27),
        ),
        audio=AudioConfig(
            sample_rate_hz=16000,
            backbone=wav2vec2_base(),
            band=None,
            window=WindowConfig(past_features=150, lookahead_features=8, normalize=True),
            slots_per_frame=1,
            local_width=256,
            strided_widths=(512, 1024, 2048),
            num_speech_tokens=4,
        ),
        hands=HandConfig(sigma_tokens=1.0, hidden_width=1024),
        controls=_controls(hidden_width=1024),
        expression=RangeConfig(min=0.0, max=2.0, default=1.0),
        guidance=None,
        sigmas=(1.0, 0.9875, 0.975, 0.725, 0.0),
        vae=ltx_vae_config(),
    )


def wav2vec2_base() -> BackboneConfig:
    """facebook/wav2vec2-base."""
    return BackboneConfig(
        frontend="waveform",
        conv_dim=(512,) * 7,
        conv_kernel=_CONV_KERNEL,
        conv_stride=_CONV_STRIDE,
        conv_bias=False,
        feature_norm="group",
        hidden_size=768,
        num_layers=12,
        num_heads=12,
        intermediate_size=3072,
        pos_conv_kernel=128,
        pos_conv_groups=16,
        stable_layer_norm=False,
    )


def wav2vec2_large() -> BackboneConfig:
    """facebook/wav2vec2-large-xlsr-53 and its kin."""
    return dataclasses.replace(
        wav2vec2_base(),
        conv_bias=True,
        feature_norm="layer",
        hidden_size=1024,
        num_layers=24,
        num_heads=16,
        intermediate_size=4096,
        stable_layer_norm=True,
    )
