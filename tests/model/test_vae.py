"""The video VAE: its grid, causality, chunks equal the whole, and what training needs of it."""

from dataclasses import replace

import pytest
import torch
from mirrorme_model.vae import VideoVae, smooth_seams
from mirrorme_model.vae_config import VaeConfig
from mirrorme_model.vae_presets import demo_vae_config, ltx_vae_config, tiny_vae_config

TINY = tiny_vae_config()
TEMPORAL = replace(
    TINY,
    decoder=replace(TINY.decoder, temporal_kernels=(3, 2, 2, 1), input_temporal_kernel=2),
)
"""Context at several stages, and frames folded only at the last one."""
RESIDUAL = replace(
    TINY,
    decoder=replace(
        TINY.decoder,
        widths=(32, 32, 16, 8),
        temporal_kernels=(2, 1, 1, 1),
        upsample_residual=True,
        norm="pixel",
        activation="silu",
    ),
)
CAUSAL = [
    pytest.param(TINY, id="tiny"),
    pytest.param(TEMPORAL, id="temporal"),
    pytest.param(RESIDUAL, id="residual"),
    pytest.param(replace(TINY, seam_step=0.5), id="tiny-seams"),
    pytest.param(replace(TEMPORAL, seam_step=0.5), id="temporal-seams"),
    pytest.param(replace(RESIDUAL, seam_step=0.5), id="residual-seams"),
]


def make_vae(config: VaeConfig, seed: int = 0) -> VideoVae:
    torch.manual_seed(seed)
    vae = VideoVae(config).eval()
    vae.scale.mean.normal_()
    vae.scale.std.uniform_(0.5, 2)
    return vae


def small_ltx(**decoder) -> VaeConfig:
    ltx = ltx_vae_config()
    return replace(
        ltx,
        encoder=replace(ltx.encoder, widths=(8, 16, 32, 64, 128), num_blocks=(1, 1, 1, 1, 1)),
        decoder=replace(ltx.decoder, widths=(64, 32, 16, 8), num_blocks=(1, 1, 1, 1), **decoder),
    )


@pytest.mark.parametrize(
    "config",
    [TINY, replace(TINY, seam_step=0.5), small_ltx()],
    ids=["tiny", "tiny-seams", "ltx"],
)
@pytest.mark.parametrize("num_latents", [1, 2, 4])
@torch.no_grad()
def test_grid(config: VaeConfig, num_latents: int) -> None:
    vae = make_vae(config)
    frames = torch.rand(2, 3, 8 * num_latents - 7, 64, 96) * 2 - 1
    posterior = vae.encode(frames)
    assert posterior.mean.shape == (2, 128, num_latents, 2, 3)
    assert posterior.log_variance.shape == posterior.mean.shape
    assert vae.decode(posterior.mean).shape == frames.shape


@pytest.mark.parametrize("shape", [(1, 3, 8, 64, 64), (1, 3, 9, 64, 48), (1, 3, 9, 40, 64)])
def test_clips_off_the_grid_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="want"):
        make_vae(TINY).encode(torch.zeros(shape))


@pytest.mark.parametrize("config", [TINY, small_ltx()], ids=["tiny", "ltx"])
@torch.no_grad()
def test_encoder_is_causal(config: VaeConfig) -> None:
    vae = make_vae(config)
    frames = torch.rand(1, 3, 25, 32, 32) * 2 - 1
    whole = vae.encode(frames).mean
    for num_latents in (1, 2, 3):
        seen = 8 * num_latents - 7
        changed = frames.clone()
        changed[:, :, seen:] = 0.5
        other = vae.encode(changed).mean
        torch.testing.assert_close(
            other[:, :, :num_latents], whole[:, :, :num_latents], atol=1e-5, rtol=0
        )
        assert (other[:, :, num_latents:] - whole[:, :, num_latents:]).abs().max() > 1e-3
        prefix = vae.encode(frames[:, :, :seen]).mean
        torch.testing.assert_close(prefix, whole[:, :, :num_latents], atol=1e-5, rtol=0)


@pytest.mark.parametrize("config", CAUSAL)
@pytest.mark.parametrize("chunk", [1, 2, 3, 5])
@torch.no_grad()
def test_chunks_equal_the_whole_clip(config: VaeConfig, chunk: int) -> None:
    vae = make_vae(config)
    context = config.context_latents
    identity, latents = torch.randn(2, 128, 1, 2, 2), torch.randn(2, 128, 7, 2, 2)
    whole = vae.decode(torch.cat([identity, latents], dim=2))
    assert whole.shape[2] == 1 + 8 * 7
    stream = torch.cat([identity] * context + [latents], dim=2)
    # Every latent after the identity makes 8 frames.
    torch.testing.assert_close(vae.decode_chunk(stream), whole[:, :, 1:], atol=1e-5, rtol=0)
    parts = [
        vae.decode_chunk(stream[:, :, start : start + context + chunk])
        for start in range(0, 7, chunk)
    ]
    torch.testing.assert_close(torch.cat(parts, dim=2), whole[:, :, 1:], atol=1e-5, rtol=0)


@pytest.mark.parametrize("config", CAUSAL)
@torch.no_grad()
def test_decoder_is_causal_and_uses_all_its_context(config: VaeConfig) -> None:
    vae = make_vae(config)
    context = config.context_latents
    latents = torch.randn(1, 128, context + 4, 2, 2)
    whole = vae.decode_chunk(latents)
    later = latents.clone()
    later[:, :, -1] += 1
    changed = vae.decode_chunk(later)
    torch.testing.assert_close(changed[:, :, :24], whole[:, :, :24], atol=0, rtol=0)
    assert (changed[:, :, 24:] - whole[:, :, 24:]).abs().amax(dim=(0, 1, 3, 4)).min() > 1e-4
    earliest = latents.clone()
    earliest[:, :, 0] += 1
    changed = vae.decode_chunk(earliest)
    assert (changed[:, :, :8] - whole[:, :, :8]).abs().max() > 0
    torch.testing.assert_close(changed[:, :, 8:], whole[:, :, 8:], atol=0, rtol=0)


@pytest.mark.parametrize("config", CAUSAL)
def test_a_window_without_a_chunk_is_refused(config: VaeConfig) -> None:
    context = config.context_latents
    with pytest.raises(ValueError, match="no chunk"):
        make_vae(config).decode_chunk(torch.zeros(1, 128, context, 2, 2))


@torch.no_grad()
def test_chunks_of_a_decoder_that_looks_ahead_equal_the_whole_within_their_reach() -> None:
    reach = small_ltx().decoder.stage_context_frames()[0] + 1
    vae = make_vae(small_ltx(window_context_latents=reach, window_lookahead_latents=reach))
    latents = torch.randn(1, 128, 2 * reach + 3, 1, 1)
    whole = vae.decode(latents)
    # A latent j after the first one makes the frames 8j - 7 to 8j of a whole clip.
    for first, chunk in ((reach, 1), (reach, 3), (reach + 2, 1)):
        window = latents[:, :, first - reach : first + chunk + reach]
        frames = vae.decode_chunk(window)
        expected = whole[:, :, 8 * first - 7 : 8 * (first + chunk) - 7]
        torch.testing.assert_close(frames, expected, atol=1e-5, rtol=0)


@torch.no_grad()
def test_the_noise_is_the_same_wherever_it_is_used() -> None:
    vae, other = make_vae(small_ltx()), make_vae(small_ltx())
    latents = torch.zeros(1, 128, 3, 2, 2)
    mixed = vae.scale.to_decoder(latents)
    torch.testing.assert_close(mixed, other.scale.to_decoder(latents), atol=0, rtol=0)
    torch.testing.assert_close(mixed[:, :, 0], mixed[:, :, 2], atol=0, rtol=0)
    noise = (mixed - vae.scale.mean[:, None, None, None]) / vae.scale.std[:, None, None, None]
    assert 0.8 < noise.std().item() / 0.025 < 1.2
    with pytest.raises(ValueError, match="at most 64"):
        vae.scale.to_decoder(torch.zeros(1, 128, 1, 2, 65))


@torch.no_grad()
def test_latents_are_normalised() -> None:
    plain, scaled = make_vae(TINY), make_vae(TINY)
    plain.scale.mean.zero_()
    plain.scale.std.fill_(1)
    frames = torch.rand(1, 3, 9, 32, 32) * 2 - 1
    raw, normal = plain.encode(frames), scaled.encode(frames)
    mean, std = (s[:, None, None, None] for s in (scaled.scale.mean, scaled.scale.std))
    torch.testing.assert_close(normal.mean * std + mean, raw.mean, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(normal.log_variance.exp() * std**2, raw.log_variance.exp())
    torch.testing.assert_close(
        scaled.decode(normal.mean), plain.decode(raw.mean), atol=1e-4, rtol=1e-4
    )


@pytest.mark.parametrize("config", [*CAUSAL, pytest.param(small_ltx(), id="ltx")])
def test_gradients_reach_every_weight(config: VaeConfig) -> None:
    vae = make_vae(config).train()
    frames = torch.rand(1, 3, 9, 32, 32) * 2 - 1
    posterior = vae.encode(frames)
    noise = torch.randn_like(posterior.mean)
    latents = posterior.mean + noise * (0.5 * posterior.log_variance).exp()
    (vae.decode(latents) - frames).square().mean().backward()
    # Weights that scale a constant through zero have none; nothing else does.
    assert [name for name, p in vae.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("config", [TINY, demo_vae_config()], ids=["tiny", "demo"])
@torch.no_grad()
def test_random_weights_draw_something_within_range(config: VaeConfig) -> None:
    vae = make_vae(config)
    context = config.context_latents
    vae.scale.mean.zero_()
    vae.scale.std.fill_(1)
    frames = vae.decode_chunk(torch.randn(1, 128, context + 1, 8, 8))
    assert 0.1 < frames.std().item() < 0.6
    assert frames.abs().gt(1).float().mean().item() < 0.05
    picture = torch.rand(1, 3, 1, 256, 256) * 2 - 1
    assert 0.1 < vae.encode(picture).mean.std().item() < 2


def test_small_steps_at_seams_are_spread_and_large_ones_stay() -> None:
    frames = torch.zeros(1, 1, 17, 1, 2)
    frames[:, :, 1:9] = torch.tensor([0.08, 0.8])
    frames[:, :, 9:] = torch.tensor([0.0, 1.6])
    still, moving = smooth_seams(frames, 0.1)[0, 0, :, 0].T
    torch.testing.assert_close(still[:8], 0.08 * torch.arange(1, 9) / 8)
    torch.testing.assert_close(still[8:], 0.08 * torch.arange(7, -1, -1) / 8)
    assert moving[0].item() == pytest.approx(0.8 - 0.1 * 7 / 8), "so much is spread, and no more"
    assert (moving[7].item(), moving[15].item()) == (pytest.approx(0.8), pytest.approx(1.6))


@torch.no_grad()
def test_seams_of_a_still_stream_are_no_larger_than_what_is_between() -> None:
    """One latent repeated: whatever differs at a seam is by the frames' places in their latent."""
    plain = make_vae(replace(TINY, seam_step=0.0))
    smooth = make_vae(replace(TINY, seam_step=2.0))
    latents = torch.randn(1, 128, 1, 2, 2).expand(-1, -1, 6, -1, -1)

    def seam_ratio(vae: VideoVae) -> float:
        steps = vae.decode(latents).diff(dim=2).abs().mean(dim=(0, 1, 3, 4))
        at_seam = torch.arange(len(steps)) % 8 == 0
        return float(steps[8:][at_seam[8:]].mean() / steps[~at_seam].mean())

    assert seam_ratio(smooth) < 0.5 * seam_ratio(plain)
