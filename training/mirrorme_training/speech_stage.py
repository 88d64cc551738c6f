"""The first stage: the audio encoder learns speech by itself, from sounds and mouth shapes.

No pictures are needed. The denoiser then listens to tokens that already say how the mouth moves.
"""

from __future__ import annotations

import copy

import torch
from mirrorme_model.audio_encoder import AudioEncoder
from mirrorme_model.avatar import AvatarModel
from mirrorme_model.vae_config import FRAMES_PER_LATENT
from torch import Tensor, nn

from mirrorme_training.clip_store import ClipStore
from mirrorme_training.latent_clips import MOUTH_CONTROLS
from mirrorme_training.portrait_mouth import OPENING, parting
from mirrorme_training.portrait_pose import CONTROL_INDEX, DETAILS
from mirrorme_training.recipe import SpeechStageConfig
from mirrorme_training.speech_batch_augment import augment_batch
from mirrorme_training.speech_head import SpeechHead
from mirrorme_training.stage import Picture, averaged_copy, curves, mean_correlation

_STRIP_CLIPS = 4
_HELD_OUT = 16
"""Clips that are only drawn; of few clips, a quarter."""


class SpeechStage:
    """See `Stage`."""

    def __init__(
        self, model: AvatarModel, config: SpeechStageConfig, store: ClipStore, seed: int
    ) -> None:
        self.model = model
        self.average = averaged_copy(model)
        self._config, self._store = config, store
        known = copy.deepcopy(model.audio).requires_grad_(False) if config.keep_tokens else None
        self._known, self._known_tokens = known, dict[int, Tensor]()
        self._num_latents = store.num_frames // FRAMES_PER_LATENT
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            head = SpeechHead(model.config.audio, len(MOUTH_CONTROLS) + len(DETAILS) + 1)
        self._head = head.to(store.device)
        model.requires_grad_(False)
        model.audio.requires_grad_(True).train()
        model.audio.tokens.null.requires_grad_(False)
        model.audio.tokens.padding.requires_grad_(False)
        self.trained = nn.ModuleDict(
            {"model": nn.ModuleDict({"audio": model.audio}), "head": self._head}
        )
        self.clips_per_step = config.batch

    def compile(self) -> None:
        """See `Stage`."""
        self.model.audio.encode_clip = torch.compile(self.model.audio.encode_clip)

    def advance(self, step: int) -> None:
        """See `Stage`: all clips are there."""

    def show(self, part: int) -> None:
        """See `Stage`: all parts draw from all clips."""

    def kind(self, step: int) -> None:
        """See `Stage`: clips are looked up one by one."""

    def loss(self, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """See `Stage`."""
        store, device = self._store, self._store.device
        clips = torch.randint(
            store.num_clips - min(_HELD_OUT, store.num_clips // 4),
            (self._config.batch,),
            device=device,
            generator=generator,
        )
        pcm = torch.stack([store.audio(clip) for clip in clips.tolist()])
        shapes, visemes = self._truth(clips.tolist())
        tokens = self.model.audio.encode_clip(augment_batch(pcm, generator), self._num_latents)
        loss, named_right = self._head.loss(tokens, shapes, visemes)
        with torch.no_grad():
            made, truth = self._head(tokens)[0][..., -1], shapes[..., -1]
        numbers = {"visemes_right": named_right, "opening_r": mean_correlation(made, truth)}
        if self._known is not None:
            strayed = self._strayed(self._known, tokens, clips.tolist(), pcm)
            loss = loss + self._config.keep_tokens * strayed
            numbers["strayed"] = strayed.detach()
        return loss, numbers

    def _strayed(
        self, known: AudioEncoder, tokens: Tensor, clips: list[int], pcm: Tensor
    ) -> Tensor:
        """Squared distance from the known tokens of clean speech, over their variance."""
        missing = [row for row, clip in enumerate(clips) if clip not in self._known_tokens]
        if missing:
            with torch.no_grad():
                heard = known.encode_clip(pcm[missing], self._num_latents).half()
            self._known_tokens |= {clips[r]: t for r, t in zip(missing, heard, strict=True)}
        wanted = torch.stack([self._known_tokens[clip] for clip in clips]).float()
        return (tokens - wanted).square().mean() / wanted.var()

    def _truth(self, clips: list[int]) -> tuple[Tensor, Tensor]:
        """Mouth shapes, the opening last, and visemes, of whole clips."""
        poses = [self._store.pose(clip) for clip in clips]
        controls = torch.stack([pose.controls for pose in poses])
        details = torch.stack([pose.details for pose in poses])
        columns = [CONTROL_INDEX[name] for name in MOUTH_CONTROLS]
        opening = torch.stack(
            [torch.stack(parting(pose.control)).sum(dim=0) / OPENING for pose in poses]
        )
        shapes = torch.cat([controls[..., columns], details, opening[..., None]], dim=-1)
        return shapes, torch.stack([self._store.visemes(clip) for clip in clips])

    def held_out(self) -> dict[str, Tensor]:
        """See `Stage`."""
        return {}

    @torch.no_grad()
    def strip(self) -> Picture:
        """Openings over time in clips that are not trained on: truth grey, made black."""
        first = max(0, self._store.num_clips - _STRIP_CLIPS)
        clips = list(range(first, self._store.num_clips))
        pcm = torch.stack([self._store.audio(clip) for clip in clips])
        tokens = self.average.audio.encode_clip(pcm, self._num_latents)
        made, truth = self._head(tokens)[0][..., -1], self._truth(clips)[0][..., -1]
        return curves(truth, made)

    def finish(self) -> None:
        """See `Stage`: nothing to do."""
