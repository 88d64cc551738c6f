"""VAE configs: what is refused, and the context that follows from the kernels."""

from dataclasses import replace

import pytest
from mirrorme_model.errors import ConfigError
from mirrorme_model.vae_config import VaeConfig
from mirrorme_model.vae_presets import demo_vae_config, ltx_vae_config, tiny_vae_config

TINY = tiny_vae_config()
LTX = ltx_vae_config()


@pytest.mark.parametrize(
    ("input_kernel", "kernels", "blocks", "context"),
    [
        (1, (1, 1, 1, 1), (1, 1, 1, 1), 0),
        (3, (1, 1, 1, 1), (1, 1, 1, 1), 2),
        (2, (2, 1, 1, 1), (1, 1, 1, 1), 4),
        (3, (3, 1, 1, 1), (1, 1, 1, 1), 8),
        # 3 frames of the second stage are 2 latents, the first stage and its input take 4.
        (2, (2, 2, 1, 1), (1, 1, 1, 1), 6),
        # 3 frames of the last stage, at 8 a latent.
        (1, (1, 1, 1, 2), (1, 1, 1, 1), 1),
    ],
)
def test_context_follows_from_the_kernels(input_kernel, kernels, blocks, context) -> None:
    decoder = replace(
        TINY.decoder,
        input_temporal_kernel=input_kernel,
        temporal_kernels=kernels,
        num_blocks=blocks,
    )
    assert decoder.context_latents == context
    assert decoder.lookahead_latents == 0


def test_a_window_is_chosen_where_the_decoder_is_not_causal() -> None:
    assert (LTX.decoder.context_latents, LTX.decoder.lookahead_latents) == (
        LTX.decoder.window_context_latents,
        LTX.decoder.window_lookahead_latents,
    )


@pytest.mark.parametrize("config", [TINY, demo_vae_config(), LTX])
def test_presets_keep_the_grid(config: VaeConfig) -> None:
    assert config.latent_channels == 128
    assert config.encoder is None or config.encoder.spatial_factor * config.patch_px == 32


def test_the_linear_path_goes_into_decoders_of_single_frames_at_its_end() -> None:
    decoder = demo_vae_config().decoder
    assert decoder is not None and decoder.linear_input
    with pytest.raises(ConfigError, match="linear_input wants a causal decoder"):
        replace(decoder, temporal_kernels=(1, 1, 1, 2))
    with pytest.raises(ConfigError, match="linear_input wants patch_basis"):
        replace(TINY, decoder=decoder)


@pytest.mark.parametrize(
    ("part", "change", "named"),
    [
        ("encoder", {"widths": (8, 16, 16, 16)}, "widths"),
        ("encoder", {"widths": (8, 16, 16, 16, 36)}, "16 -> 36"),
        ("encoder", {"widths": (8, 16, 16, 16, 0)}, "widths is 0"),
        ("encoder", {"norm": "batch"}, "norm"),
        ("encoder", {"activation": "gelu"}, "activation"),
        ("encoder", {"downsamplings": ("spatial", "temporal", "spatial")}, "downsamplings"),
        ("encoder", {"downsamplings": ("spatial",) * 4}, "frames a latent"),
        ("encoder", {"input_temporal_kernel": 0}, "input_temporal_kernel"),
        ("decoder", {"num_blocks": (1, 1, 1)}, "num_blocks"),
        ("decoder", {"temporal_kernels": (2, 1, 1, 0)}, "temporal_kernels is 0"),
        ("decoder", {"noise_scale": 0.1}, "timestep"),
        ("decoder", {"timestep": 0.05, "noise_scale": 1.0}, "noise_scale"),
        ("decoder", {"window_context_latents": 2}, "not causal"),
        ("decoder", {"causal": False}, "window"),
        ("decoder", {"upsample_residual": True, "widths": (32, 24, 8, 8)}, "upsample_residual"),
    ],
)
def test_refusals_name_the_setting(part: str, change: dict, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        replace(TINY, **{part: replace(getattr(TINY, part), **change)})


def test_even_kernels_are_refused_where_the_decoder_is_not_causal() -> None:
    with pytest.raises(ConfigError, match="odd"):
        replace(LTX.decoder, temporal_kernels=(3, 3, 2, 3))


def test_a_patch_that_misses_the_grid_is_refused() -> None:
    with pytest.raises(ConfigError, match="16 pixels"):
        replace(TINY, patch_px=2)
