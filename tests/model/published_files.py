"""Writes checkpoints in the published layouts: small ones with weights, full-size ones without."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from diffusers import AutoencoderKLLTXVideo, LTXVideoTransformer3DModel
from mirrorme_model.config import ModelConfig, TextConfig
from mirrorme_model.ltx_keys import transformer_keys, vae_keys
from mirrorme_model.presets import preset
from mirrorme_model.transformer import Transformer
from mirrorme_model.vae import VideoVae
from mirrorme_model.vae_config import VaeConfig
from safetensors.torch import save_file
from torch import Tensor
from transformers import Wav2Vec2Config

FULL = preset("ltx-2b")


def small_config() -> ModelConfig:
    """All kinds of layers of `ltx-2b`, few of each, and narrow."""
    vae = FULL.vae
    assert vae.encoder
    return dataclasses.replace(
        FULL,
        video=dataclasses.replace(FULL.video, height_px=64, width_px=96),
        dit=dataclasses.replace(
            FULL.dit,
            num_layers=3,
            num_heads=4,
            head_dim=32,
            text=TextConfig(caption_channels=24, num_prompt_tokens=5),
            audio_layers=(0, 2),
        ),
        audio=dataclasses.replace(FULL.audio, local_width=16, strided_widths=(16, 16, 32)),
        hands=None,
        vae=dataclasses.replace(
            vae,
            encoder=dataclasses.replace(vae.encoder, widths=(16, 32, 64, 128, 256)),
            decoder=dataclasses.replace(vae.decoder, widths=(128, 64, 32, 16)),
        ),
    )


def with_narrow_backbone(config: ModelConfig) -> ModelConfig:
    """With a speech backbone of few weights, which no published file fits."""
    backbone = dataclasses.replace(
        config.audio.backbone,
        conv_dim=(16,) * 7,
        hidden_size=32,
        num_layers=2,
        num_heads=4,
        intermediate_size=64,
        pos_conv_kernel=16,
    )
    return dataclasses.replace(config, audio=dataclasses.replace(config.audio, backbone=backbone))


def diffusers_transformer(config: ModelConfig) -> LTXVideoTransformer3DModel:
    """diffusers' network of the same shape."""
    dit = config.dit
    assert dit.text
    return LTXVideoTransformer3DModel(
        num_layers=dit.num_layers,
        num_attention_heads=dit.num_heads,
        attention_head_dim=dit.head_dim,
        cross_attention_dim=dit.width,
        caption_channels=dit.text.caption_channels,
    )


def diffusers_vae(config: VaeConfig) -> AutoencoderKLLTXVideo:
    """diffusers' network of the same shape."""
    encoder, decoder = config.encoder, config.decoder
    assert encoder
    num_up = len(decoder.widths) - 1
    return AutoencoderKLLTXVideo(
        latent_channels=config.latent_channels,
        block_out_channels=encoder.widths,
        down_block_types=("LTXVideo095DownBlock3D",) * len(encoder.downsamplings),
        layers_per_block=encoder.num_blocks,
        spatio_temporal_scaling=(True,) * len(encoder.downsamplings),
        downsample_type=encoder.downsamplings,
        # diffusers counts from the finest stage, and names its widths before upsampling.
        decoder_block_out_channels=decoder.widths[:num_up][::-1],
        decoder_layers_per_block=decoder.num_blocks[::-1],
        decoder_spatio_temporal_scaling=(True,) * num_up,
        decoder_inject_noise=(False,) * (num_up + 1),
        upsample_residual=(True,) * num_up,
        upsample_factor=(2,) * num_up,
        timestep_conditioning=True,
        patch_size=config.patch_px,
        encoder_causal=True,
        decoder_causal=False,
    )


def single_file_names(config: ModelConfig) -> dict[str, str]:
    """diffusers' names, with their folder, to those of the single file."""
    with torch.device("meta"):
        transformer = Transformer(config.dit, config.vae.latent_channels).state_dict()
        vae = VideoVae(config.vae).state_dict()
    single = transformer_keys(transformer, "single_file")
    folder = transformer_keys(transformer, "diffusers")
    names = {f"transformer/{folder[own]}": single[own] for own in transformer}
    single, folder = (vae_keys(vae, config.vae, layout) for layout in ("single_file", "diffusers"))
    return names | {f"vae/{folder[own]}": single[own] for own in vae}


def write_single_file(path: Path, tensors: Mapping[str, Tensor], settings: dict | None) -> None:
    """A file as LTX-Video's, with what it holds besides the networks."""
    unused = {
        f"vae.per_channel_statistics.{name}": torch.zeros(128)
        for name in ("channel", "mean-of-stds", "mean-of-stds_over_std-of-means")
    }
    metadata = None if settings is None else {"config": json.dumps(settings)}
    save_file({**tensors, **unused}, path, metadata)


def write_hollow(path: Path, shapes: Mapping[str, tuple[int, ...]], dtype: str = "BF16") -> None:
    """A safetensors file of any size that takes no room on the disk: all its tensors are zero."""
    header, end = {}, 0
    for name, shape in shapes.items():
        start, end = (
            end,
            end + torch.Size(shape).numel() * {"BF16": 2, "F32": 4, "F8_E4M3": 1}[dtype],
        )
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)


def full_shapes() -> dict[str, tuple[int, ...]]:
    """Of LTX-Video 2B by diffusers' names, with their folder, as diffusers has them."""
    with torch.device("meta"):
        networks = {"transformer": LTXVideoTransformer3DModel(), "vae": diffusers_vae(FULL.vae)}
    return {
        f"{part}/{name}": tuple(tensor.shape)
        for part, network in networks.items()
        for name, tensor in network.state_dict().items()
    }


def small_wav2vec2(kind: str) -> Wav2Vec2Config:
    """The published layouts, narrow: `base` or `large`."""
    large = kind == "large"
    return Wav2Vec2Config(
        conv_dim=(16,) * 7,
        conv_bias=large,
        feat_extract_norm="layer" if large else "group",
        do_stable_layer_norm=large,
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=64,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
        vocab_size=32,
    )
