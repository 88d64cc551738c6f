"""Weights of a Hugging Face wav2vec2 folder (arXiv 2006.11477), base or large.

`config.json` says what network it is; the weights are `model.safetensors`, or the older
`pytorch_model.bin`. Heads for other tasks are left out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import Wav2Vec2Config, Wav2Vec2Model

from mirrorme_model.audio_config import BackboneConfig
from mirrorme_model.errors import CheckpointError, ConfigError
from mirrorme_model.key_match import match_keys
from mirrorme_model.published_ltx import weight_files
from mirrorme_model.published_settings import check_settings, read_settings
from mirrorme_model.speech_backbone import wav2vec2_config
from mirrorme_model.tensor_source import (
    PickleSource,
    RenamedSource,
    SafetensorsSource,
    Shapes,
    TensorSource,
)

WAV2VEC2_PUBLISHED_AS = (
    "wav2vec2 is published on Hugging Face as folders with config.json and model.safetensors or "
    "pytorch_model.bin: base as facebook/wav2vec2-base and facebook/wav2vec2-base-960h, large as "
    "facebook/wav2vec2-large-xlsr-53 and jonatasgrosman/wav2vec2-large-xlsr-53-english"
)
WAV2VEC2 = "audio.backbone.wav2vec2."
"""Where these weights lie in `AvatarModel`."""
_PREFIX = "wav2vec2."
"""In files of models with a head."""
_HEADS = ("lm_head.", "quantizer.", "project_q.", "project_hid.", "projector.", "classifier.")
_UNUSED = "masked_spec_embed"
"""Stands for masked features, in training alone."""
_WEIGHT_NORM = {"parametrizations.weight.original0": "weight_g"} | {
    "parametrizations.weight.original1": "weight_v"
}
"""Weight norm's names: PyTorch's newer ones, which we have, to the older ones."""
_FIXED_SETTINGS = {
    "model_type": "wav2vec2",
    "hidden_act": "gelu",
    "feat_extract_activation": "gelu",
    "layer_norm_eps": 1e-5,
    "add_adapter": False,
}


@dataclass(frozen=True)
class PublishedWav2Vec2:
    """A folder that was checked."""

    backbone: BackboneConfig
    normalize: bool
    """True: the network expects audio of mean 0 and variance 1."""
    source: TensorSource
    """Under the names of `AvatarModel.state_dict()`."""


def open_wav2vec2(folder: Path) -> PublishedWav2Vec2:
    """Opens a folder, and checks every key.

    Raises:
        CheckpointError: naming what is missing, unexpected, of another shape, or not supported, and
            where fitting folders are published.
    """
    if not folder.is_dir():
        raise CheckpointError(f"no wav2vec2 folder {folder}. {WAV2VEC2_PUBLISHED_AS}")
    backbone = _read_backbone(folder)
    source = _open_weights(folder)
    with torch.device("meta"):
        network = Wav2Vec2Model(wav2vec2_config(backbone))
    wanted = {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
    rename = _renaming(source.shapes)
    names = {key: rename(key) for key in wanted}
    match_keys(
        wanted,
        names,
        source.shapes,
        is_unused=lambda name: name.startswith(_HEADS) or name.removeprefix(_PREFIX) == _UNUSED,
        where=str(folder),
        advice=WAV2VEC2_PUBLISHED_AS,
    )
    return PublishedWav2Vec2(
        backbone=backbone,
        normalize=_read_normalize(folder),
        source=RenamedSource(source, {WAV2VEC2 + own: name for own, name in names.items()}),
    )


def _read_backbone(folder: Path) -> BackboneConfig:
    path = folder / "config.json"
    stated = read_settings(path, WAV2VEC2_PUBLISHED_AS)
    # Here absent is as wrong as another value.
    check_settings({"model_type": None} | stated, _FIXED_SETTINGS, str(path), WAV2VEC2_PUBLISHED_AS)
    # Fills in the defaults that files leave out.
    config = Wav2Vec2Config(**stated)
    if config.feat_extract_norm not in ("group", "layer"):
        raise CheckpointError(f"{path}: feat_extract_norm is {config.feat_extract_norm!r}")
    try:
        return BackboneConfig(
            frontend="waveform",
            conv_dim=tuple(config.conv_dim),
            conv_kernel=tuple(config.conv_kernel),
            conv_stride=tuple(config.conv_stride),
            conv_bias=config.conv_bias,
            feature_norm=config.feat_extract_norm,
            hidden_size=config.hidden_size,
            num_layers=config.num_hidden_layers,
            num_heads=config.num_attention_heads,
            intermediate_size=config.intermediate_size,
            pos_conv_kernel=config.num_conv_pos_embeddings,
            pos_conv_groups=config.num_conv_pos_embedding_groups,
            stable_layer_norm=config.do_stable_layer_norm,
        )
    except ConfigError as error:
        raise CheckpointError(f"{path}: {error}") from error


def _read_normalize(folder: Path) -> bool:
    """What the folder's feature extractor does; it does so by default."""
    path = folder / "preprocessor_config.json"
    if not path.exists():
        return True
    stated = read_settings(path, WAV2VEC2_PUBLISHED_AS)
    check_settings(stated, {"sampling_rate": 16000}, str(path), WAV2VEC2_PUBLISHED_AS)
    return bool(stated.get("do_normalize", True))


def _open_weights(folder: Path) -> TensorSource:
    old = folder / "pytorch_model.bin"
    name = "model.safetensors"
    if old.exists() and not any((folder / f).exists() for f in (name, f"{name}.index.json")):
        return PickleSource(old)
    advice = f"An older folder has {old.name}. {WAV2VEC2_PUBLISHED_AS}"
    return SafetensorsSource(weight_files(folder, name, advice))


def _renaming(got: Shapes) -> Callable[[str], str]:
    """From our keys, without prefix, to those of a file."""
    prefix = _PREFIX if any(name.startswith(_PREFIX) for name in got) else ""
    older = any(name.endswith("conv.weight_g") for name in got)

    def rename(key: str) -> str:
        if older:
            for ours, theirs in _WEIGHT_NORM.items():
                key = key.replace(ours, theirs)
        return prefix + key

    return rename
