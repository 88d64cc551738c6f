"""Weights of published LTX-Video checkpoints: one safetensors file, or diffusers' folder.

Nothing is downloaded, and nothing is read before it is needed: opening checks every key, shape and
setting against the config.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from mirrorme_model.config import ModelConfig
from mirrorme_model.errors import CheckpointError
from mirrorme_model.key_match import match_keys
from mirrorme_model.ltx_keys import (
    SINGLE_FILE_PREFIX,
    TRANSFORMER_PREFIX,
    UNUSED_SINGLE_FILE_KEYS,
    Layout,
    transformer_keys,
    vae_keys,
)
from mirrorme_model.published_settings import (
    Settings,
    check_settings,
    parse_settings,
    read_settings,
    transformer_settings,
    vae_settings,
)
from mirrorme_model.tensor_source import (
    JoinedSource,
    RenamedSource,
    SafetensorsSource,
    Shapes,
    TensorSource,
)
from mirrorme_model.transformer import Transformer
from mirrorme_model.vae import VideoVae

BASE_PUBLISHED_AS = (
    "LTX-Video 2B, versions 0.9.5 to 0.9.8, is published on Hugging Face: in Lightricks/LTX-Video "
    "as ltx-video-2b-v0.9.5.safetensors, ltxv-2b-0.9.6-dev-04-25.safetensors, "
    "ltxv-2b-0.9.6-distilled-04-25.safetensors and ltxv-2b-0.9.8-distilled.safetensors; as a "
    "diffusers folder (transformer/, vae/) in Lightricks/LTX-Video-0.9.5"
)
TRANSFORMER = "denoiser.base."
VAE = "vae."
"""Where these weights lie in `AvatarModel`."""
_WEIGHTS_FILE = "diffusion_pytorch_model.safetensors"


@dataclass(frozen=True)
class _Part:
    """The transformer or the VAE in one layout."""

    name: str
    own_shapes: Shapes
    names: dict[str, str]
    """Our names, without prefix, to the checkpoint's."""
    settings: Settings


def open_base(path: Path, config: ModelConfig) -> TensorSource:
    """Transformer and VAE, under the names of `AvatarModel.state_dict()`.

    Args:
        path: a safetensors file, or a folder with `transformer/` and `vae/`.
        config: what the checkpoint must fit.

    Raises:
        CheckpointError: naming what is missing, unexpected, of another shape, or of another
            version, and where fitting files are published.
    """
    if path.is_dir():
        return _open_folder(path, config)
    if not path.exists():
        raise CheckpointError(f"no base {path}. {BASE_PUBLISHED_AS}")
    return _open_single_file(path, config)


def _open_single_file(path: Path, config: ModelConfig) -> TensorSource:
    source = SafetensorsSource([path])
    stated = _stated_settings(path)
    parts = _parts(config, "single_file")
    for part, prefix in zip(parts, (TRANSFORMER_PREFIX, SINGLE_FILE_PREFIX), strict=True):
        if not any(name.startswith(prefix) for name in source.shapes):
            raise CheckpointError(f"{path} holds no {part.name} ({prefix}*). {BASE_PUBLISHED_AS}")
        found = stated.get(part.name, {})
        _check_part(part, source.shapes, found if isinstance(found, dict) else {}, str(path))
    names = {own: name for part in parts for own, name in part.names.items()}
    wanted = {own: shape for part in parts for own, shape in part.own_shapes.items()}
    match_keys(
        wanted,
        names,
        source.shapes,
        is_unused=UNUSED_SINGLE_FILE_KEYS.__contains__,
        where=str(path),
        advice=BASE_PUBLISHED_AS,
    )
    return RenamedSource(source, names)


def _open_folder(path: Path, config: ModelConfig) -> TensorSource:
    opened: list[TensorSource] = []
    for part in _parts(config, "diffusers"):
        folder = path / part.name
        stated = read_settings(folder / "config.json", BASE_PUBLISHED_AS)
        source = SafetensorsSource(weight_files(folder, _WEIGHTS_FILE, BASE_PUBLISHED_AS))
        _check_part(part, source.shapes, stated, str(folder))
        match_keys(
            part.own_shapes,
            part.names,
            source.shapes,
            is_unused=lambda _: False,
            where=str(folder),
            advice=BASE_PUBLISHED_AS,
        )
        opened.append(RenamedSource(source, part.names))
    return JoinedSource(*opened)


def weight_files(folder: Path, name: str, advice: str) -> list[Path]:
    """The safetensors files of a folder: `name`, or the shards that `name.index.json` lists.

    Raises:
        CheckpointError: neither is there, or a shard is missing.
    """
    index = folder / f"{name}.index.json"
    if not index.exists():
        if not (folder / name).exists():
            raise CheckpointError(f"{folder} holds neither {name} nor {index.name}. {advice}")
        return [folder / name]
    shards = read_settings(index, advice).get("weight_map")
    if not isinstance(shards, dict) or not shards:
        raise CheckpointError(f"{index} has no weight_map")
    paths = [folder / shard for shard in sorted(set(shards.values()))]
    if missing := [path.name for path in paths if not path.exists()]:
        raise CheckpointError(f"{folder} lacks {', '.join(missing)}, which {index.name} lists")
    return paths


def _parts(config: ModelConfig, layout: Layout) -> tuple[_Part, _Part]:
    with torch.device("meta"):
        transformer = Transformer(config.dit, config.vae.picture_channels)
        vae = VideoVae(config.vae)
    names = transformer_keys(transformer.state_dict(), layout)
    return (
        _part("transformer", TRANSFORMER, transformer, names, transformer_settings(config, layout)),
        _part(
            "vae",
            VAE,
            vae,
            vae_keys(vae.state_dict(), config.vae, layout),
            vae_settings(config, layout),
        ),
    )


def _part(
    name: str, prefix: str, module: nn.Module, names: dict[str, str], settings: Settings
) -> _Part:
    return _Part(
        name=name,
        own_shapes={prefix + key: tuple(t.shape) for key, t in module.state_dict().items()},
        names={prefix + own: theirs for own, theirs in names.items()},
        settings=settings,
    )


def _check_part(part: _Part, got: Shapes, stated: Settings, where: str) -> None:
    """Names the version before its keys are compared one by one."""
    version = _other_transformer(part, got) if part.name == "transformer" else _other_vae(part, got)
    if version:
        raise CheckpointError(f"{where} holds {version}. {BASE_PUBLISHED_AS}")
    check_settings(stated, part.settings, f"{where} ({part.name})", BASE_PUBLISHED_AS)


def _other_transformer(part: _Part, got: Shapes) -> str | None:
    first = TRANSFORMER + "patchify_proj.weight"
    shape = got.get(part.names[first])
    if shape is None:
        return None
    size = _num_layers(got), shape[0]
    wanted = part.settings["num_layers"], part.own_shapes[first][0]
    if size == wanted:
        return None
    known = " (LTX-Video 13B, versions 0.9.7 and 0.9.8)" if size == (48, 4096) else ""
    return (
        f"a transformer of {size[0]} layers, {size[1]} wide{known}: "
        f"want {wanted[0]} layers, {wanted[1]} wide"
    )


def _num_layers(names: Iterable[str]) -> int:
    found = (re.search(r"transformer_blocks\.(\d+)\.", name) for name in names)
    return 1 + max((int(match[1]) for match in found if match), default=-1)


def _other_vae(part: _Part, got: Shapes) -> str | None:
    last = VAE + "encoder.conv_out.conv.weight"
    shape = got.get(part.names[last])
    if shape is None or shape[1] == part.own_shapes[last][1]:
        return None
    conditioned = any(".time_embedder." in name for name in got) or any(
        ".last_time_embedder." in name for name in got
    )
    version = "0.9.1" if conditioned else "0.9.0"
    return (
        f"a VAE whose encoder ends {shape[1]} wide, as version {version}'s: "
        f"want {part.own_shapes[last][1]}, as in versions 0.9.5 to 0.9.8"
    )


def _stated_settings(path: Path) -> dict[str, Any]:
    """What the file's metadata says of its networks; nothing if it has none."""
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get("config")
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    return {} if text is None else parse_settings(text, f"{path}: metadata config")
