"""LTX-Video's VAE against diffusers' AutoencoderKLLTXVideo, with the same weights."""

import dataclasses

import pytest
import torch
from diffusers import AutoencoderKLLTXVideo
from mirrorme_model.ltx_keys import UNUSED_SINGLE_FILE_KEYS, vae_keys
from mirrorme_model.vae import VideoVae
from mirrorme_model.vae_presets import ltx_vae_config
from mirrorme_model.video_decoder import unpatchify

from tests.model.published_files import diffusers_vae

LTX = ltx_vae_config()
SMALL = dataclasses.replace(
    LTX,
    encoder=dataclasses.replace(LTX.encoder, widths=(16, 32, 64, 128, 256)),
    decoder=dataclasses.replace(LTX.decoder, widths=(128, 64, 32, 16)),
)
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def pair() -> tuple[VideoVae, AutoencoderKLLTXVideo]:
    torch.manual_seed(0)
    theirs = diffusers_vae(SMALL).eval()
    theirs.latents_mean.normal_()
    theirs.latents_std.uniform_(0.5, 2)
    ours = VideoVae(SMALL).eval()
    weights = theirs.state_dict()
    keys = vae_keys(ours.state_dict(), SMALL, "diffusers")
    assert sorted(keys.values()) == sorted(weights)
    ours.load_state_dict({own: weights[name] for own, name in keys.items()})
    return ours, theirs


@pytest.mark.parametrize("num_frames", [1, 9, 25])
@torch.no_grad()
def test_encoder_parity(pair: tuple[VideoVae, AutoencoderKLLTXVideo], num_frames: int) -> None:
    ours, theirs = pair
    frames = torch.rand(1, 3, num_frames, 96, 64) * 2 - 1
    expected = theirs.encode(frames).latent_dist
    mean, log_variance = ours.encoder(frames)
    assert (mean - expected.mean).abs().max() <= TOLERANCE
    assert (log_variance - expected.logvar).abs().max() <= TOLERANCE
    assert mean.std() > 1e-2


@pytest.mark.parametrize("num_latents", [1, 2, 4])
@torch.no_grad()
def test_decoder_parity(pair: tuple[VideoVae, AutoencoderKLLTXVideo], num_latents: int) -> None:
    ours, theirs = pair
    latents = torch.randn(1, 128, num_latents, 3, 2)
    expected = theirs.decode(latents, torch.tensor([0.05])).sample
    frames = unpatchify(ours.decoder(latents).patches, LTX.patch_px)
    assert frames.shape == expected.shape == (1, 3, 8 * num_latents - 7, 96, 64)
    assert (frames - expected).abs().max() <= TOLERANCE
    assert frames.std() > 1e-2


@torch.no_grad()
def test_timestep_matters(pair: tuple[VideoVae, AutoencoderKLLTXVideo]) -> None:
    ours, theirs = pair
    latents = torch.randn(1, 128, 2, 2, 2)
    other = theirs.decode(latents, torch.tensor([0.5])).sample
    frames = unpatchify(ours.decoder(latents).patches, LTX.patch_px)
    assert (frames - other).abs().max() > 10 * TOLERANCE


def test_full_size_has_the_shapes_of_diffusers() -> None:
    with torch.device("meta"):
        ours, theirs = VideoVae(LTX), diffusers_vae(LTX)
    own = ours.state_dict()
    keys = vae_keys(own, LTX, "diffusers")
    shapes = {name: tuple(tensor.shape) for name, tensor in theirs.state_dict().items()}
    assert {keys[name]: tuple(tensor.shape) for name, tensor in own.items()} == shapes
    assert all(tensor.is_meta for tensor in own.values())


def test_single_file_names() -> None:
    """As diffusers' own converter reads them: the other direction, written by others."""
    from diffusers.loaders.single_file_utils import convert_ltx_vae_checkpoint_to_diffusers

    with torch.device("meta"):
        own = VideoVae(LTX).state_dict()
    single, folder = (vae_keys(own, LTX, layout) for layout in ("single_file", "diffusers"))
    assert UNUSED_SINGLE_FILE_KEYS.isdisjoint(single.values())
    assert set(single.values()) >= {
        "vae.per_channel_statistics.mean-of-means",
        "vae.per_channel_statistics.std-of-means",
        "vae.encoder.down_blocks.1.conv.conv.weight",
        "vae.decoder.up_blocks.6.res_blocks.4.conv2.conv.bias",
        "vae.decoder.last_time_embedder.timestep_embedder.linear_2.weight",
    }
    converted = convert_ltx_vae_checkpoint_to_diffusers(
        {single[name]: tensor for name, tensor in own.items()}
    )
    assert {name: tuple(t.shape) for name, t in converted.items()} == {
        folder[name]: tuple(t.shape) for name, t in own.items()
    }


def test_foreign_keys_are_refused() -> None:
    for layout in ("single_file", "diffusers"):
        with pytest.raises(ValueError, match=r"quantizer\.weight"):
            vae_keys(["quantizer.weight"], LTX, layout)
