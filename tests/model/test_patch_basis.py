"""The linear path of the light VAE: the same for pictures, clips, chunks and exported bytes."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from mirrorme_model.errors import ConfigError
from mirrorme_model.vae import VideoVae
from mirrorme_model.vae_config import VaeConfig
from mirrorme_model.vae_graphs import DecoderGraph, IdentityEncoderGraph
from mirrorme_model.vae_presets import demo_vae_config, ltx_vae_config, tiny_vae_config

LINEAR = dataclasses.replace(tiny_vae_config(), encoder=None, decoder=None, patch_basis=True)
DECODED = dataclasses.replace(tiny_vae_config(), encoder=None, patch_basis=True)
BOTH = dataclasses.replace(tiny_vae_config(), patch_basis=True)
SEAMLESS = dataclasses.replace(demo_vae_config(), seam_step=0.2)


@pytest.fixture(
    params=[LINEAR, DECODED, BOTH, dataclasses.replace(LINEAR, seam_step=0.0), SEAMLESS],
    ids=["linear", "decoded", "both", "linear-as-is", "demo"],
)
def vae(request: pytest.FixtureRequest) -> VideoVae:
    config: VaeConfig = request.param
    torch.manual_seed(0)
    made = VideoVae(config).eval().requires_grad_(False)
    assert made.basis is not None
    made.basis.mean.normal_(std=0.1)
    made.basis.log_gain.normal_(std=0.5)
    return made


@pytest.fixture
def clip() -> torch.Tensor:
    return torch.rand(2, 3, 17, 64, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_pictures_are_the_first_frames_of_clips(vae: VideoVae, clip: torch.Tensor) -> None:
    whole = vae.encode(clip).mean
    assert torch.allclose(vae.encode(clip[:, :, :1]).mean, whole[:, :, :1], atol=1e-4)
    image = ((clip[:, :, 0] + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1)
    picture = image.permute(0, 3, 1, 2)[:, :, None].float() / 127.5 - 1
    assert torch.allclose(
        IdentityEncoderGraph(vae)(image), vae.encode(picture).mean[:, :, 0], atol=1e-4
    )


def test_chunks_equal_the_whole_clip(vae: VideoVae, clip: torch.Tensor) -> None:
    latents = vae.encode(clip).mean
    whole = vae.decode(latents)
    context = vae.config.context_latents
    padded = torch.cat([latents[:, :, :1]] * context + [latents], dim=2)
    chunks = [vae.decode_chunk(padded[:, :, at : at + context + 1]) for at in (1, 2)]
    assert torch.allclose(torch.cat(chunks, dim=2), whole[:, :, 1:], atol=1e-4)


def test_bytes_are_the_frames(vae: VideoVae, clip: torch.Tensor) -> None:
    latents = vae.encode(clip).mean
    window = torch.cat([latents[:, :, :1]] * vae.config.context_latents + [latents], dim=2)
    frames = ((vae.decode_chunk(window) + 1) * 127.5).clamp(0, 255)
    made = DecoderGraph(vae)(window.transpose(1, 2)).permute(0, 4, 1, 2, 3)
    assert (made.float() - frames).abs().max() <= 0.51


def test_orthogonal_rows_decode_what_they_encode() -> None:
    vae = VideoVae(LINEAR).requires_grad_(False)
    assert vae.basis is not None
    latents = torch.randn(1, 128, 2, 1, 2, generator=torch.Generator().manual_seed(2))
    made = vae.basis.decode(latents)
    back = (vae.basis.blocks(made) - vae.basis.mean) @ vae.basis.weight.T
    back = back * (vae.basis.log_gain.exp() / len(vae.basis.mean) ** 0.5)
    assert torch.allclose(back.permute(0, 4, 1, 2, 3), latents, atol=1e-4)


def test_configs_that_cannot_be(vae: VideoVae) -> None:
    with pytest.raises(ConfigError, match="patch_basis"):
        dataclasses.replace(vae.config, encoder=None, patch_basis=False)
    with pytest.raises(ConfigError, match="decoder is null"):
        dataclasses.replace(tiny_vae_config(), decoder=None)
    with pytest.raises(ConfigError, match="divisor of 32"):
        dataclasses.replace(LINEAR, patch_px=5)
    with pytest.raises(ConfigError, match="causal"):
        dataclasses.replace(ltx_vae_config(), patch_basis=True)
