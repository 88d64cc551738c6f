"""Names of weights in published LTX-Video checkpoints (0.9.5 to 0.9.8).

Two layouts are published: one safetensors file with everything, and diffusers' folder.
Names only; reading files is not done here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import partial
from typing import Literal, TypeAlias

from mirrorme_model.vae_config import VaeConfig

Layout: TypeAlias = Literal["single_file", "diffusers"]

SINGLE_FILE_PREFIX = "vae."
TRANSFORMER_PREFIX = "model.diffusion_model."
_DIFFUSERS_TRANSFORMER_NAMES = {
    "patchify_proj": "proj_in",
    "adaln_single": "time_embed",
    "q_norm": "norm_q",
    "k_norm": "norm_k",
}
_STATISTICS = "vae.per_channel_statistics."
UNUSED_SINGLE_FILE_KEYS = frozenset(
    _STATISTICS + name for name in ("channel", "mean-of-stds", "mean-of-stds_over_std-of-means")
)
"""Published, and needed by nothing: statistics of the training data's latents."""


def vae_keys(own_keys: Iterable[str], config: VaeConfig, layout: Layout) -> dict[str, str]:
    """Our `VideoVae.state_dict` keys to the names of the same tensors in a layout.

    Raises:
        ValueError: for a key that no published checkpoint has.
    """
    rename: Callable[[str], str]
    match layout:
        case "single_file":
            rename = _single_file_key
        case "diffusers":
            assert config.encoder
            rename = partial(_diffusers_key, last_down=2 * len(config.encoder.downsamplings))
    return {key: rename(key) for key in own_keys}


def _single_file_key(key: str) -> str:
    match key.split(".", 1):
        case ["scale", "mean"]:
            return _STATISTICS + "mean-of-means"
        case ["scale", "std"]:
            return _STATISTICS + "std-of-means"
        case ["encoder" | "decoder", _]:
            return SINGLE_FILE_PREFIX + key
    raise ValueError(f"no published checkpoint has {key}")


def _diffusers_key(key: str, last_down: int) -> str:
    """diffusers joins a stage with the resampling beside it, and names the coarsest one apart."""
    match key.split(".", 1):
        case ["scale", name]:
            return f"latents_{name}"
        case ["encoder", name]:
            return "encoder." + re.sub(
                r"^down_blocks\.(\d+)\.(.*)", lambda m: _down(int(m[1]), m[2], last_down), name
            )
        case ["decoder", name]:
            return "decoder." + re.sub(
                r"^up_blocks\.(\d+)\.(.*)",
                lambda m: _up(int(m[1]), m[2]),
                name.removeprefix("last_"),
            )
    raise ValueError(f"no published checkpoint has {key}")


def _down(index: int, rest: str, last: int) -> str:
    rest = rest.replace("res_blocks", "resnets")
    if index == last:
        return f"mid_block.{rest}"
    return f"down_blocks.{index // 2}.{'downsamplers.0.' if index % 2 else ''}{rest}"


def _up(index: int, rest: str) -> str:
    rest = rest.replace("res_blocks", "resnets")
    if index == 0:
        return f"mid_block.{rest}"
    return f"up_blocks.{(index - 1) // 2}.{'upsamplers.0.' if index % 2 else ''}{rest}"


def transformer_keys(own_keys: Iterable[str], layout: Layout) -> dict[str, str]:
    """Our `Transformer.state_dict` keys to the names of the same tensors in a layout.

    In a folder they are those of `transformer/`.
    """
    match layout:
        case "single_file":
            return {key: TRANSFORMER_PREFIX + key for key in own_keys}
        case "diffusers":
            return {key: _renamed(key) for key in own_keys}


def _renamed(key: str) -> str:
    for ours, theirs in _DIFFUSERS_TRANSFORMER_NAMES.items():
        key = key.replace(ours, theirs)
    return key
