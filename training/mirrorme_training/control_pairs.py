"""People who are silent, and the same with one control moved: the difference is what it does.

In clips everything moves, and what a lid or a nostril does is small beside how wrong the rest is
made. Between two pictures that are alike but for one control, that is all there is. Heads stand as
idle motion leaves them, a little turned and lifted by breath: what that does is seen in pairs of
its own, or it would be taken for what small controls do.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from mirrorme_model.avatar import AvatarModel
from mirrorme_model.conditions import Conditions
from mirrorme_model.config import ControlConfig
from mirrorme_model.vae_config import (
    FRAMES_PER_LATENT,
    NUM_HANDS,
    NUM_KEYPOINTS,
    SPATIAL_FACTOR,
)
from torch import Tensor, nn

from mirrorme_training.clip_bank import Record
from mirrorme_training.clip_casting import to_video
from mirrorme_training.clip_generator import FIRST_TRAINING_SEED
from mirrorme_training.clip_window import MASK_STRIDE, cut_tokens
from mirrorme_training.control_names import controls_named
from mirrorme_training.portrait_identity import Identity
from mirrorme_training.portrait_pose import (
    BREATH,
    CONTROL_INDEX,
    GAZE_CONTROLS,
    HEAD_CONTROLS,
    Pose,
    rest_pose,
    with_controls,
)
from mirrorme_training.portrait_renderer import render
from mirrorme_training.portrait_sampler import sample_identity
from mirrorme_training.recipe import RecipeError
from mirrorme_training.rollout import roll_out

REST, JAW_DOWN = range(2)
"""The first states; those after them have one control moved each."""
_BREATHS, _TURNS = 2, 3
"""The last states: breathed otherwise than the others, then turned otherwise, and at last not at
all, as in portraits."""
NUM_TURNED = _BREATHS + _TURNS
"""How many last states have no control moved but those of the whole picture."""
_PORTRAIT = -1
_FAVOUR = 3.0
_FAINT_OF = 4
"""So many are drawn where the one with the faintest lips is taken."""
_TURNED = dict.fromkeys(HEAD_CONTROLS, 4.0) | dict.fromkeys(GAZE_CONTROLS, 0.3) | {BREATH: 1.0}
"""How far to either side at most, in the controls' units."""
_CHUNKS = 2
"""That a state has lasted when what is made of it is taken."""
_JAW = 0.5
_LEAST = 0.35
"""Of the most that a control is moved by."""
_BOTH_WAYS = 0.5
"""What goes both ways is moved by so much of its reach at most."""


class ControlPairs:
    """Makes records of one person each, who is silent.

    Fields, S being `len(bases)` and h, w `crop_tokens`, where most of the face is: `frames`
    [S, 32h, 32w, 3] uint8; `made` [S, C, h, w], what the denoiser makes of each state; `code`
    [S, E]; `masks` [2, 8h, 8w] uint8 face and mouth of the first state.
    """

    def __init__(
        self, model: AvatarModel, crop_tokens: tuple[int, int], seed: int, device: torch.device,
        *, faint_lips: float = 0.0,
    ) -> None:  # fmt: skip
        """
        Args:
            model: that has a face code; frozen.
            crop_tokens: rows and columns that are kept.
            seed: of all people.
            faint_lips: share of the people who are, of `_FAINT_OF`, the one whose lips differ
                least in colour from the skin.
        """
        self._model, self._crop_tokens, self._seed, self._device = model, crop_tokens, seed, device
        self._faint_lips = faint_lips
        controls = model.config.controls.controls
        whole = (*HEAD_CONTROLS, BREATH)
        self._moved = [c for c in controls if c.name in CONTROL_INDEX and c.name not in whole]
        self.bases = [REST, REST]
        self.bases += [JAW_DOWN if c.name == "mouthClose" else REST for c in self._moved]
        self.bases += [REST] * NUM_TURNED
        """Of each state the one that it is compared with."""

    @torch.no_grad()
    def __call__(self, number: int) -> Record:
        """The record of a number."""
        model, config, device = self._model, self._model.config, self._device
        random = np.random.default_rng([self._seed, number, 4])
        who = self._person(random).to(device)
        pose, asked = self._states(random)
        shown = render(who, pose.to(device), config.video.height_px)
        names = [control.name for control in config.controls.controls]
        order = torch.tensor([CONTROL_INDEX[name] for name in names], device=device)
        controls = shown.controls[:, order][:, None].expand(-1, FRAMES_PER_LATENT, -1)
        opening = shown.mouth_open_ratio[:, None].expand(-1, FRAMES_PER_LATENT)
        face_code = model.denoiser.face_code
        assert face_code is not None
        masks = torch.stack([shown.face_mask[REST], shown.mouth_mask[REST]])[None].float()
        masks = nn.functional.avg_pool2d(masks, MASK_STRIDE)[0]
        inside = nn.functional.avg_pool2d(masks[None, :1], SPATIAL_FACTOR // MASK_STRIDE)
        kept = self._crop_tokens
        places = nn.functional.avg_pool2d(inside, kept, stride=1)[0, 0]
        row, column = divmod(int(places.argmax()), places.shape[1])
        draw = torch.Generator(device).manual_seed(int(random.integers(2**62)))
        made = self._made(shown.frames[_PORTRAIT], controls, asked.to(device)[:, order], draw)
        return {
            "frames": cut_tokens(shown.frames, row, column, kept, SPATIAL_FACTOR, 1),
            "made": cut_tokens(made, row, column, kept, 1, 2).half(),
            "code": face_code.truth(opening, controls)[:, 0].half(),
            "masks": cut_tokens(masks, row, column, kept, SPATIAL_FACTOR // MASK_STRIDE, 1).to(
                torch.uint8
            ),
        }

    def odds(self, turned_share: float, favoured: Sequence[str]) -> Tensor:
        """Of each state but the two first to be the one shown beside its base, `[S - 2]`.

        Args:
            turned_share: of the last `NUM_TURNED`, together.
            favoured: controls, or how their names begin, with `_FAVOUR` times the odds of others.

        Raises:
            RecipeError: no control's name begins so.
        """
        names = [control.name for control in self._moved]
        try:
            often = {name for start in favoured for name in controls_named(names, start)}
        except ValueError as error:
            raise RecipeError(f"pair_favoured: {error}") from error
        odds = [_FAVOUR if name in often else 1.0 for name in names]
        turned = [turned_share / NUM_TURNED] * NUM_TURNED
        moved = [(1 - turned_share) * share / sum(odds) for share in odds]
        return torch.tensor([*moved, *turned], device=self._device)

    def _person(self, random: np.random.Generator) -> Identity:
        count = _FAINT_OF if random.random() < self._faint_lips else 1
        seeds = FIRST_TRAINING_SEED + random.integers(2**40, size=count)
        people = sample_identity(seeds.tolist())
        faintest = int(lip_contrast(people).argmin())
        return people[faintest : faintest + 1]

    def _states(self, random: np.random.Generator) -> tuple[Pose, Tensor]:
        """Poses, and which controls `[S, controls]` are asked for, in the order of poses."""
        pose = rest_pose(len(self.bases))
        asked = torch.zeros_like(pose.controls)
        drawn: dict[str, Tensor] = {"jawOpen": torch.zeros(len(self.bases))}
        for name, reach in _TURNED.items():
            turned = reach * random.uniform(-1, 1, 1 + _TURNS)
            turned[_PORTRAIT] = 0
            drawn[name] = torch.full((len(self.bases),), turned[0])
            drawn[name][-_TURNS:] = torch.from_numpy(turned[1:])
            asked[:, CONTROL_INDEX[name]] = 1
        breaths = _TURNED[BREATH] * random.uniform(-1, 1, _BREATHS)
        drawn[BREATH][-NUM_TURNED:-_TURNS] = torch.from_numpy(breaths)
        for state, base in enumerate(self.bases):
            if JAW_DOWN in (state, base):
                drawn["jawOpen"][state] = _JAW
                asked[state, CONTROL_INDEX["jawOpen"]] = 1
        for state, control in enumerate(self._moved, start=JAW_DOWN + 1):
            values = drawn.setdefault(control.name, torch.zeros(len(self.bases)))
            values[state] = _value(control, random)
            asked[state, CONTROL_INDEX[control.name]] = 1
        return with_controls(pose, **drawn), asked

    def _made(
        self, portrait: Tensor, controls: Tensor, asked: Tensor, draw: torch.Generator
    ) -> Tensor:
        """`[S, C, h, w]`, of `[S, 8, controls]` and which of them are asked, `[S, controls]`; all
        from the same noise."""
        model = self._model
        chunk, count = model.config.chunk, len(asked)
        identity = model.vae.encode(to_video(portrait[None])[None]).mean[:, :, 0]
        identity = identity.expand(count, -1, -1, -1)
        silence = torch.zeros(1, 1, device=self._device)
        tokens = model.audio.encode_clip(silence, _CHUNKS * chunk.num_latents)
        tokens = tokens.expand(count, -1, -1, -1)
        conditions = Conditions(
            identity=identity,
            motion=identity[:, None].expand(-1, chunk.motion_latents, -1, -1, -1),
            audio_tokens=tokens,
            expression=torch.ones(count, device=self._device),
            hand_keypoints=controls.new_zeros(
                count, model.config.chunk_frames, NUM_HANDS, NUM_KEYPOINTS, 3
            ),
            controls=controls.repeat(1, chunk.num_latents, 1),
            control_weights=asked[:, None].expand(-1, model.config.chunk_frames, -1),
        )
        chunks = [
            dataclasses.replace(conditions, audio_tokens=heard)
            for heard in tokens.split(chunk.num_latents, dim=1)
        ]
        shape = (len(chunks), chunk.num_latents, *identity.shape[1:])
        noise = torch.randn(shape, device=self._device, generator=draw).expand(count, *shape)
        return roll_out(model.denoiser, chunks, noise, None)[:, -1]


def lip_contrast(people: Identity) -> Tensor:
    """How far lips stand out from the skin, `[B]`: the mean difference of their colours, 0 to 1."""
    return (people.mouth.lip - people.face.skin).abs().mean(dim=1)


def _value(control: ControlConfig, random: np.random.Generator) -> float:
    share = random.uniform(_LEAST, 1)
    if control.range.min < 0:
        return float(_BOTH_WAYS * share * random.choice([control.range.min, control.range.max]))
    return float(share * control.range.max)
