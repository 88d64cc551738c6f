"""What training starts from is the best that closed forms give."""

from __future__ import annotations

import dataclasses

import torch
from mirrorme_model.anchor import Anchor
from mirrorme_model.vae import VideoVae
from mirrorme_model.vae_presets import tiny_vae_config
from mirrorme_training.anchor_fit import fit_anchor
from mirrorme_training.basis_fit import fit_basis
from mirrorme_training.channel_weights import channel_sensitivity
from mirrorme_training.clip_bank import ClipBank, Record
from mirrorme_training.clip_casting import to_video
from mirrorme_training.recipe import BankConfig
from torch import Tensor

NUM_CLIPS = 40
NUM_PATTERNS = 6


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def few_patterns(number: int) -> Record:
    """Clips `[9, 64, 64, 3]` whose blocks are mixes of a few patterns, moving in 8 frames."""
    patterns = normal(NUM_PATTERNS, 8, 32, 32, 3, seed=0)
    shares = normal(2, 2, NUM_PATTERNS, seed=number + 1)
    blocks = torch.einsum("ijp,ptyxc->tiyjxc", shares, patterns).reshape(8, 64, 64, 3)
    pixels = (127.5 + 12 * blocks).round().clamp(0, 255).to(torch.uint8)
    return {
        "frames": torch.cat([pixels[:1], pixels]),
        "masks": torch.zeros(9, 16, 16, 2, dtype=torch.uint8),
    }


def test_basis_finds_what_pictures_are_made_of() -> None:
    torch.manual_seed(0)
    config = dataclasses.replace(tiny_vae_config(), encoder=None, patch_basis=True)
    vae = VideoVae(config).requires_grad_(False)
    bank = ClipBank(BankConfig(num_clips=NUM_CLIPS, renew_every_steps=0), few_patterns)
    bank.advance(0)
    unseen = to_video(few_patterns(NUM_CLIPS + 3)["frames"])[None]
    before = (vae.decode(vae.encode(unseen).mean) - unseen)[:, :, 1:].std()
    fit_basis(vae, bank, seed=0)
    after = (vae.decode(vae.encode(unseen).mean) - unseen)[:, :, 1:].std()
    assert after < 0.02 < 0.1 < before
    latents = vae.encode(unseen).mean
    window = torch.cat([latents[:, :, :1]] * config.context_latents + [latents[:, :, 1:]], dim=2)
    seen = channel_sensitivity(vae, window.repeat(32, 1, 1, 1, 1), torch.ones(32, 2, 2), seed=0)
    assert seen[:NUM_PATTERNS].min() > 100 * seen[-1]


def test_some_channels_say_how_things_move_alone() -> None:
    torch.manual_seed(0)
    config = dataclasses.replace(tiny_vae_config(), encoder=None, decoder=None, patch_basis=True)
    vae = VideoVae(config).requires_grad_(False)
    bank = ClipBank(BankConfig(num_clips=NUM_CLIPS, renew_every_steps=0), few_patterns)
    bank.advance(0)
    fit_basis(vae, bank, seed=0)
    clip = to_video(few_patterns(NUM_CLIPS + 3)["frames"])[None]
    picture = vae.encode(clip[:, :, :1]).mean[0, :, 0].abs().amax(dim=(1, 2))
    silent = picture < 1e-3
    assert 0.4 * len(silent) < silent.sum() < 0.5 * len(silent)
    moving = vae.encode(clip).mean[0, silent, 1].abs().amax(dim=(1, 2))
    assert (moving[:NUM_PATTERNS] > 0.1).all()


def test_anchor_finds_the_mix_and_what_is_left() -> None:
    identity, motion = normal(400, 3, 2, 2, seed=0), normal(400, 2, 3, 2, 2, seed=1)
    mix = torch.tensor([[0.9, 0.3, 0.0], [0.1, 0.6, 0.8]])
    std = torch.tensor([0.1, 0.3, 0.6])
    portrait, last = mix[:, :, None, None]
    target = (portrait * identity + last * motion[:, -1])[:, None]
    target = target + std[:, None, None] * normal(400, 1, 3, 2, 2, seed=2)
    anchor = Anchor(channels=3, width=8)
    fit_anchor(anchor, identity, motion, target)
    assert torch.allclose(anchor.mix, mix, atol=0.05)
    assert torch.allclose(anchor.log_std.exp(), std, rtol=0.1)
