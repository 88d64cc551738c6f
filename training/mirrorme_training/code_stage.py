"""The stage that gives speech a face code: what lips do, from sounds alone, for all faces alike.

No pictures are needed, so it sees far more speech than stages that paint. The audio encoder stays
as it is.
"""

from __future__ import annotations

import torch
from mirrorme_model.avatar import AvatarModel
from mirrorme_model.face_code import OPENING_UNIT, FaceCode
from mirrorme_model.vae_config import FRAMES_PER_LATENT
from torch import Tensor, nn

from mirrorme_training.clip_generator import FIRST_TRAINING_SEED
from mirrorme_training.clip_store import ClipStore
from mirrorme_training.flow_batch import draw_dropped, moved_alone
from mirrorme_training.portrait_mouth import parting
from mirrorme_training.portrait_pose import CONTROL_INDEX
from mirrorme_training.portrait_sampler import sample_identity
from mirrorme_training.recipe import CodeStageConfig
from mirrorme_training.speech_batch_augment import augment_batch
from mirrorme_training.stage import Picture, averaged_copy, curves, mean_correlation

_STRIP_CLIPS = 4
_HELD_OUT = 16
"""Clips that are only drawn; of few clips, a quarter."""
_NUM_MOUTHS = 64
_NEARLY = 0.1
"""Errors far below count by their square, others as they are: lips that mostly close, close."""
_WIDE = 0.3
"""The opening ratio that weighs as much as the whole reach of a control."""
_CLOSED, _CLOSED_WEIGHT = 0.03, 2.0


class CodeStage:
    """See `Stage`."""

    def __init__(
        self, model: AvatarModel, config: CodeStageConfig, store: ClipStore, seed: int
    ) -> None:
        self.model = model
        self.average = averaged_copy(model)
        self._config, self._store, self._seed = config, store, seed
        model.requires_grad_(False)
        code = model.denoiser.face_code
        assert code is not None
        code.requires_grad_(True).train()
        self._code = code
        self.trained = nn.ModuleDict(
            {"model": nn.ModuleDict({"denoiser": nn.ModuleDict({"face_code": code})})}
        )
        self.clips_per_step = config.batch
        self._num_latents = store.num_frames // FRAMES_PER_LATENT
        who = sample_identity(list(range(FIRST_TRAINING_SEED, FIRST_TRAINING_SEED + _NUM_MOUTHS)))
        self._mouth_width = 2 * float(who.mouth.width.mean())
        self._tokens: Tensor | None = None
        self._truths = self._all_truths()

    def compile(self) -> None:
        """See `Stage`: too small to gain."""

    @torch.no_grad()
    def advance(self, step: int) -> None:
        """See `Stage`: all clips are heard before the first step."""
        if self._tokens is not None:
            return
        store, size = self._store, self._config.batch
        hearings: list[Tensor] = []
        for hearing in range(self._config.hearings):
            generator = torch.Generator(store.device).manual_seed(self._seed * 1000 + hearing)
            heard = []
            for start in range(0, store.num_clips, size):
                clips = range(start, min(start + size, store.num_clips))
                pcm = augment_batch(torch.stack([store.audio(c) for c in clips]), generator)
                heard.append(self.model.audio.encode_clip(pcm, self._num_latents).half())
            hearings.append(torch.cat(heard))
        self._tokens = torch.stack(hearings, dim=1)

    def show(self, part: int) -> None:
        """See `Stage`: all parts draw from all clips."""

    def kind(self, step: int) -> None:
        """See `Stage`: too small to gain."""

    def loss(self, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """See `Stage`."""
        assert self._tokens is not None
        device, config = self._store.device, self._config
        last = self._store.num_clips - min(_HELD_OUT, self._store.num_clips // 4)
        clips = torch.randint(last, (config.batch,), device=device, generator=generator)
        hearings = torch.randint(
            config.hearings, (config.batch,), device=device, generator=generator
        )
        made, truth = self._made(self._code, clips, hearings, generator)
        errors = (made - truth.nan_to_num()) * ~truth.isnan()
        errors[..., :FRAMES_PER_LATENT] *= OPENING_UNIT / _WIDE
        errors = (errors.square() + _NEARLY**2).sqrt() - _NEARLY
        opening = truth[..., :FRAMES_PER_LATENT] * OPENING_UNIT
        at_lips = errors[..., :FRAMES_PER_LATENT]
        at_lips = at_lips * (1 + (_CLOSED_WEIGHT - 1) * (opening < _CLOSED))
        loss = at_lips.mean() + errors[..., FRAMES_PER_LATENT:].mean()
        return loss, {"opening_r": mean_correlation(_opening(made.detach()), _opening(truth))}

    def _made(
        self, code: nn.Module, clips: Tensor, hearings: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Codes of whole clips, and true ones, `[B, F, E]`."""
        assert self._tokens is not None
        poses = [self._store.pose(clip) for clip in clips.tolist()]
        controls = torch.stack([pose.controls for pose in poses])[..., self._columns]
        visemes = torch.stack([self._store.visemes(clip) for clip in clips.tolist()])
        moved = moved_alone(controls, visemes, self.model.config)
        dropped = draw_dropped(
            self.model.config, self._config.dropout, len(clips), generator, moved
        )
        tokens = self._tokens[clips, hearings].float()
        # What lips do without speech is learned where there is none.
        speaks = torch.tensor([self._store.speaks(clip) for clip in clips.tolist()])
        heard = (speaks.to(tokens.device) | ~dropped.audio).float()
        weights = dropped.control_weights[:, None].expand_as(controls)
        return code(tokens, heard, controls, weights), self._truths[clips]

    @property
    def _columns(self) -> Tensor:
        names = [control.name for control in self.model.config.controls.controls]
        return torch.tensor([CONTROL_INDEX[name] for name in names], device=self._store.device)

    @torch.no_grad()
    def _all_truths(self) -> Tensor:
        """`[clips, F, E]`, of the mean mouth's width."""
        truths: list[Tensor] = []
        for clip in range(self._store.num_clips):
            pose = self._store.pose(clip)
            opening = torch.stack(parting(pose.control)).sum(dim=0) / self._mouth_width
            truths.append(self._code.truth(opening[None], pose.controls[None, :, self._columns])[0])
        return torch.stack(truths)

    @torch.no_grad()
    def held_out(self) -> dict[str, Tensor]:
        """See `Stage`. The same clips every time, which are not trained on."""
        made, truth = self._kept()
        return {"held_out_opening_r": mean_correlation(_opening(made), _opening(truth))}

    @torch.no_grad()
    def strip(self) -> Picture:
        """Openings over time in clips that are not trained on: truth grey, made black."""
        made, truth = self._kept()
        return curves(_opening(truth)[:_STRIP_CLIPS], _opening(made)[:_STRIP_CLIPS])

    def _kept(self) -> tuple[Tensor, Tensor]:
        count, device = self._store.num_clips, self._store.device
        clips = torch.arange(count - max(1, min(_HELD_OUT, count // 4)), count, device=device)
        code = self.average.denoiser.face_code
        assert code is not None
        generator = torch.Generator(device).manual_seed(0)
        return self._made(code, clips, torch.zeros_like(clips), generator)

    def finish(self) -> None:
        """See `Stage`: nothing to do."""


def true_code(code: FaceCode, opening: Tensor, controls: Tensor) -> Tensor:
    """`[1 + k, E]` of a clip of 1 + 8k frames, whose first stands for a latent.

    Args:
        code: of the model.
        opening: `[1 + 8k]` ratio.
        controls: `[1 + 8k, controls]`, of the model's.
    """
    return code.truth(with_lead(opening)[None], with_lead(controls)[None])[0]


def with_lead(values: Tensor) -> Tensor:
    """`[1 + 8k, ...]` of a clip's frames to `[8 + 8k, ...]`: the first stands for a latent."""
    return torch.cat([values[:1].expand(FRAMES_PER_LATENT - 1, *values.shape[1:]), values])


def with_cues(model: AvatarModel, seed: int) -> AvatarModel:
    """The model itself, if its decoder is told of faces and hands; else a copy that is, whose
    new layers change nothing yet, but for the shapes of hands that are told."""
    if model.vae.decoder is None or model.config == (config := model.config.with_cues()):
        return model
    made = AvatarModel.random(config, seed, zero_adapters=True)
    made.load_state_dict(made.state_dict() | model.state_dict())
    return made


def _opening(code: Tensor) -> Tensor:
    """`[B, F, E]` to opening ratios `[B, 8·F]`."""
    return code[..., :FRAMES_PER_LATENT].flatten(1) * OPENING_UNIT
