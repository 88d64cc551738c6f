"""Settings that published LTX-Video checkpoints state, and what of them this model has.

Shapes say most of a network, these the rest: number of heads, causality, padding, normalisation. A
checkpoint that states another value is another network, and is refused by the setting's name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

from mirrorme_model.config import ModelConfig
from mirrorme_model.errors import CheckpointError
from mirrorme_model.ltx_keys import Layout

Settings: TypeAlias = Mapping[str, Any]


def check_settings(found: Settings, expected: Settings, where: str, advice: str) -> None:
    """Compares what is stated; what a checkpoint does not state is not compared.

    Raises:
        CheckpointError: naming each setting that differs.
    """
    faults = [
        f"{name} is {found[name]!r}, want {want!r}"
        for name, want in expected.items()
        if name in found and found[name] != want
    ]
    if faults:
        raise CheckpointError(f"{where} is of another network: {'; '.join(faults)}. {advice}")


def read_settings(path: Path, what: str) -> dict[str, Any]:
    """A JSON object.

    Raises:
        CheckpointError: the file is missing or holds something else.
    """
    try:
        text = path.read_text()
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} is missing: {what}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    return parse_settings(text, str(path))


def parse_settings(text: str, where: str) -> dict[str, Any]:
    """As `read_settings`, from text."""
    try:
        document = json.loads(text)
    except ValueError as error:
        raise CheckpointError(f"{where} is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise CheckpointError(f"{where} is no JSON object")
    return document


def transformer_settings(config: ModelConfig, layout: Layout) -> Settings:
    """Of the transformer; both layouts share most names."""
    dit, channels = config.dit, config.vae.picture_channels
    shared: dict[str, Any] = {
        "num_layers": dit.num_layers,
        "num_attention_heads": dit.num_heads,
        "attention_head_dim": dit.head_dim,
        "in_channels": channels,
        "out_channels": channels,
        "cross_attention_dim": dit.width,
        "caption_channels": dit.text.caption_channels if dit.text else None,
        "norm_elementwise_affine": False,
        "norm_eps": 1e-6,
        "activation_fn": "gelu-approximate",
        "attention_bias": True,
    }
    match layout:
        case "single_file":
            return shared | {
                "qk_norm": "rms_norm",
                "positional_embedding_theta": 10000.0,
                "positional_embedding_max_pos": [20, 2048, 2048],
                "timestep_scale_multiplier": 1000,
                "causal_temporal_positioning": True,
            }
        case "diffusers":
            return shared | {
                "qk_norm": "rms_norm_across_heads",
                "attention_out_bias": True,
                "patch_size": 1,
                "patch_size_t": 1,
            }


def vae_settings(config: ModelConfig, layout: Layout) -> Settings:
    """Of the VAE."""
    encoder, decoder = config.vae.encoder, config.vae.decoder
    assert decoder
    shared: dict[str, Any] = {
        "latent_channels": config.vae.picture_channels,
        "patch_size": config.vae.patch_px,
        "timestep_conditioning": decoder.timestep is not None,
        "scaling_factor": 1.0,
    }
    match layout:
        case "single_file":
            return shared | {
                "_class_name": "CausalVideoAutoencoder",
                "dims": 3,
                "norm_layer": "pixel_norm",
                "latent_log_var": "uniform",
                "use_quant_conv": False,
                "causal_decoder": decoder.causal,
                "spatial_padding_mode": "zeros",
            }
        case "diffusers":
            assert encoder
            upsamplings = len(decoder.widths) - 1
            return shared | {
                "encoder_causal": True,
                "decoder_causal": decoder.causal,
                "patch_size_t": 1,
                "downsample_type": list(encoder.downsamplings),
                "layers_per_block": list(encoder.num_blocks),
                "decoder_layers_per_block": list(decoder.num_blocks[::-1]),
                "decoder_inject_noise": [False] * (upsamplings + 1),
                "upsample_residual": [decoder.upsample_residual] * upsamplings,
                "upsample_factor": [2] * upsamplings,
            }
