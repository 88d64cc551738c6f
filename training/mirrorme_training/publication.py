"""Puts together what was trained apart, for a checkpoint that is shipped."""

from __future__ import annotations

import dataclasses

import torch
from mirrorme_model.avatar import AvatarModel
from mirrorme_model.checkpoint import Checkpoint


class OtherLatents(Exception):
    """A decoder is of other latents than the denoiser."""


def with_decoder(held: Checkpoint, other: Checkpoint) -> Checkpoint:
    """The checkpoint with another one's decoder.

    Raises:
        OtherLatents: the two would encode a picture differently.
    """
    ours, theirs = held.model.vae.state_dict(), other.model.vae.state_dict()
    fixed = [name for name in ours if not name.startswith("decoder.")]
    if ours.keys() != theirs.keys() or not all(torch.equal(ours[n], theirs[n]) for n in fixed):
        raise OtherLatents("the decoder's checkpoint has other latents: train both from one VAE")
    held.model.vae.load_state_dict(theirs)
    return dataclasses.replace(held, provenance={**held.provenance, "decoder": other.provenance})


def resized(held: Checkpoint, size_px: int) -> Checkpoint:
    """The checkpoint for another size of pictures.

    Raises:
        ConfigError: the size is not supported.
    """
    config = held.model.config
    video = dataclasses.replace(config.video, width_px=size_px, height_px=size_px)
    model = AvatarModel(dataclasses.replace(config, video=video))
    model.load_state_dict(held.model.state_dict())
    return dataclasses.replace(held, model=model.eval())
