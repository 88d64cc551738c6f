"""Configs: presets, validation, strict JSON."""

import dataclasses
import json

import pytest
from mirrorme_model.audio_config import WindowConfig
from mirrorme_model.audio_window import AudioWindow
from mirrorme_model.config import ModelConfig
from mirrorme_model.errors import ConfigError
from mirrorme_model.presets import PRESETS, preset


@pytest.mark.parametrize("name", PRESETS)
def test_json_and_back(name: str) -> None:
    config = preset(name)
    assert config.preset == name
    assert ModelConfig.from_json(config.to_json()) == config


def test_ltx_2b_sizes() -> None:
    config = preset("ltx-2b", width_px=512, height_px=768, chunk_latents=1)
    assert (config.video.latent_height, config.video.latent_width) == (24, 16)
    assert config.chunk_frames == 8
    assert config.num_steps == 4


def change(document: dict, path: str, value: object) -> None:
    *parents, key = path.split(".")
    for parent in parents:
        document = document[parent]
    document[key] = value


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("colour", 1, "config has unknown settings: colour"),
        ("dit.depth", 1, "config.dit has unknown settings: depth"),
        ("dit.num_layers", "2", "config.dit.num_layers is '2': want int"),
        ("dit.num_layers", True, "config.dit.num_layers is True: want int"),
        ("dit.audio_layers", [0, 9], "are not within 2 layers"),
        ("dit.audio_layers", [1, 0], "ascending"),
        ("dit.head_dim", 15, "head_dim is 15"),
        ("video.width_px", 100, "width_px is 100: want a positive multiple of 32"),
        ("chunk.num_latents", 0, "num_latents"),
        ("chunk.identity_distance_latents", 1, "want more than motion_latents"),
        ("audio.backbone.feature_norm", "batch", "want one of 'layer', 'group'"),
        ("audio.backbone.feature_norm", "group", "depends on the whole window"),
        ("audio.backbone.num_layers", 3, "lookahead_features has 2 entries"),
        ("audio.band", None, "exactly one of band and window"),
        ("audio.slots_per_frame", 2, "want 16"),
        ("sigmas", [1.0, 0.5], "do not go from 1 to 0"),
        ("sigmas", [1.0, 0.5, 0.5, 0.0], "do not fall"),
        ("expression.default", 9.0, "range 0.0 to 2.0"),
        ("controls.controls", [], "controls must be there"),
        ("hands.hidden_width", 0, "hidden_width"),
        ("vae", 3, "config.vae is 3: want an object"),
        ("vae.decoder.norm", "batch", "config.vae.decoder.norm"),
    ],
)
def test_bad_settings_are_refused_by_name(path: str, value: object, message: str) -> None:
    document = json.loads(preset("tiny").to_json())
    change(document, path, value)
    with pytest.raises(ConfigError, match=message):
        ModelConfig.from_json(json.dumps(document))


def test_missing_settings_are_refused_by_name() -> None:
    document = json.loads(preset("tiny").to_json())
    del document["sigmas"], document["video"]["width_px"]
    with pytest.raises(ConfigError, match="config lacks settings: sigmas"):
        ModelConfig.from_json(json.dumps(document))
    document["sigmas"] = [1, 0]
    with pytest.raises(ConfigError, match=r"config\.video lacks settings: width_px"):
        ModelConfig.from_json(json.dumps(document))


def test_settings_that_an_earlier_version_did_not_have_are_the_defaults() -> None:
    document = json.loads(preset("demo").to_json())
    del document["vae"]["decoder"]["linear_input"]
    decoder = ModelConfig.from_json(json.dumps(document)).vae.decoder
    assert decoder is not None and not decoder.linear_input


def test_what_is_no_json_is_refused() -> None:
    with pytest.raises(ConfigError, match="config is not JSON"):
        ModelConfig.from_json("{")


def test_unknown_preset() -> None:
    with pytest.raises(
        ConfigError, match="preset 'big' is unknown: want one of tiny, demo, ltx-2b"
    ):
        preset("big")


def test_a_window_that_leaves_out_the_chunk_is_refused() -> None:
    config = preset("ltx-2b")
    window = WindowConfig(past_features=3, lookahead_features=0, normalize=True)
    short = dataclasses.replace(config, audio=dataclasses.replace(config.audio, window=window))
    with pytest.raises(ConfigError, match=r"audio\.window\.past_features is 3: want at least"):
        AudioWindow.of(short)
