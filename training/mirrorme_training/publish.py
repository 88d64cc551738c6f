"""A trained checkpoint as it is shipped: in half precision, with what was made beside training."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from mirrorme_model.avatar import AvatarModel
from mirrorme_model.checkpoint import Provenance, load_checkpoint, save_checkpoint
from mirrorme_model.config import LipsConfig, coded_channels
from mirrorme_model.errors import CheckpointError

from mirrorme_training.code_stage import with_cues
from mirrorme_training.control_names import controls_named

_DECODER = "decoder."


@dataclass(frozen=True)
class Blend:
    """Weights of another run that went on from the same ones: the mean of both often does better
    with what neither was trained on (model soups: Wortsman et al., 2022)."""

    checkpoint: Path
    share: float = 0.5


def publish(
    checkpoint: Path,
    output: Path,
    decoder: Path | None = None,
    control_gains: Mapping[str, float] | None = None,
    told_gains: Mapping[str, float] | None = None,
    unguessed: Sequence[str] = (),
    lips: LipsConfig | None = None,
    blend: Blend | None = None,
) -> None:
    """Writes `checkpoint` to `output`.

    Args:
        decoder: a checkpoint of stage vae whose VAE's decoder is taken; one that began from the
            same latents and trained the decoder alone.
        control_gains: of `ControlEmbedding.amplify`, for weights that do less than they are asked;
            by the name of a control, or by how the names of several begin.
        told_gains: by the same names, of `VideoDecoder.amplify_face`, for a decoder that draws less
            of a control than it is told.
        unguessed: by the same names, controls of which the decoder is told only what is asked.
        lips: by how much further lips close in what the decoder is told; None: as before.
        blend: weights that are mixed in; where their decoder sees less, layers that it lacks are
            as new ones start, as where training goes on from them.

    Raises:
        CheckpointError: a file cannot be read or written, `decoder` has other latents, or `blend`
            is of another model.
        ValueError: no control is named so, or the decoder is told none.
    """
    held = load_checkpoint(checkpoint)
    provenance = held.provenance
    if blend is not None:
        other = load_checkpoint(blend.checkpoint)
        theirs = other.model
        if theirs.config != held.model.config and held.model.vae.config.cue_channels:
            theirs = with_cues(theirs, 0)
        if theirs.config != held.model.config:
            raise CheckpointError(f"{blend.checkpoint} is of another model than {checkpoint}")
        _mix(held.model, theirs, blend.share)
        origin = _origin(other.provenance, provenance)
        provenance = {**provenance, "blend": {**origin, "share": blend.share}}
    if decoder is not None:
        other = load_checkpoint(decoder)
        own, theirs = held.model.vae.state_dict(), other.model.vae.state_dict()
        latents = [name for name in own if not name.startswith(_DECODER)]
        if own.keys() != theirs.keys() or not all(
            torch.equal(own[name], theirs[name]) for name in latents
        ):
            raise CheckpointError(
                f"{decoder} has other latents than {checkpoint}: want a decoder that was trained "
                'by train = "decoder" from the same stage vae'
            )
        held.model.vae.load_state_dict(theirs)
        provenance = {**provenance, "decoder": other.provenance}
    names = [control.name for control in held.model.config.controls.controls]
    if control_gains:
        gains = _by_control(names, control_gains)
        for name, gain in gains.items():
            held.model.denoiser.control_embedding.amplify(names.index(name), gain)
        provenance = {**provenance, "control_gains": gains}
    if told_gains:
        told = held.model.vae.decoder
        if told is None or not held.model.vae.config.face_channels:
            raise ValueError(f"{checkpoint} has no decoder that is told controls")
        gains = _by_control(names, told_gains)
        for name, gain in gains.items():
            told.amplify_face(coded_channels(names.index(name), len(names)), gain)
        provenance = {**provenance, "told_gains": gains}
    if unguessed:
        if held.model.denoiser.face_code is None:
            raise ValueError(f"{checkpoint} has no face code that guesses controls")
        resting = [name for start in unguessed for name in controls_named(names, start)]
        for name in resting:
            held.model.denoiser.face_code.stop_guessing(names.index(name))
        provenance = {**provenance, "unguessed": resting}
    model = held.model if lips is None else _with_lips(held.model, lips)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        save_checkpoint(output, model, trained=held.trained, provenance=provenance, dtype="float16")
    except OSError as error:
        raise CheckpointError(f"{output} cannot be written: {error}") from error


def _origin(theirs: Provenance, own: Provenance) -> Provenance:
    """What is said of weights that are mixed in. Those that the others went on from, too, are named
    by how many stages ago that was: what is behind them would be told twice."""
    ancestor, stages_ago = own.get("parent"), 1
    while ancestor is not None:
        if ancestor == theirs:
            return {"stages_ago": stages_ago}
        ancestor, stages_ago = ancestor.get("parent"), stages_ago + 1
    parent = theirs.get("parent")
    return theirs if parent is None else {**theirs, "parent": _origin(parent, own)}


def _with_lips(model: AvatarModel, lips: LipsConfig) -> AvatarModel:
    made = AvatarModel.random(dataclasses.replace(model.config, lips=lips), 0)
    made.load_state_dict(model.state_dict())
    return made


def _by_control(names: Sequence[str], gains: Mapping[str, float]) -> dict[str, float]:
    """The gain of each control that has one."""
    spelled_out: dict[str, float] = {}
    for start, gain in gains.items():
        for name in controls_named(names, start):
            spelled_out[name] = gain * spelled_out.get(name, 1.0)
    return spelled_out


@torch.no_grad()
def _mix(model: AvatarModel, other: AvatarModel, share: float) -> None:
    theirs = other.state_dict()
    for name, weight in model.state_dict().items():
        weight.lerp_(theirs[name], share)
