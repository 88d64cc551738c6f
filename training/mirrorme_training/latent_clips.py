"""Clips as the denoiser trains on them: encoded by the frozen VAE, with their truth."""

from __future__ import annotations

import numpy as np
import torch
from mirrorme_model.audio_encoder import AudioEncoder
from mirrorme_model.config import ModelConfig
from mirrorme_model.errors import ConfigError
from mirrorme_model.vae import VideoVae
from mirrorme_model.vae_config import FRAMES_PER_LATENT, SPATIAL_FACTOR
from torch import Tensor

from mirrorme_training.clip_bank import Record
from mirrorme_training.clip_casting import to_video
from mirrorme_training.clip_variation import vary
from mirrorme_training.clip_window import (
    MASK_STRIDE,
    ClipSource,
    ClipWindow,
    token_masks,
    window_tokens,
)
from mirrorme_training.portrait_pose import CONTROL_INDEX
from mirrorme_training.recipe import BankConfig
from mirrorme_training.speech_batch_augment import augment_batch

MOUTH_CONTROLS = (
    "jawOpen",
    "mouthClose",
    "mouthFunnel",
    "mouthPucker",
    "mouthStretchLeft",
)
"""What audio tokens are asked for besides the opening: they are of the model's controls."""
_MASK_GAINS = (2.0, 4.0)
"""A token counts as face in full from half of its pixels on, as mouth from a quarter."""


class LatentClips:
    """Makes records of one clip's window each.

    With K = 1 + window_latents, latent i >= 1 of `latents` is of 8 frames, and latent 0 of the one
    frame before them.

    Fields: `latents` [K, C, h, w], `pictures` [K, C, h, w] of the portrait at each latent's end,
    `masks` [K, 2, h, w] face and mouth in 0 to 1, `pcm` [N] clean, `controls` [8K, controls] and
    `keypoints` [8K, 2, 21, 3] as the denoiser takes them, `mouth` [8K] opening ratio, `visemes`
    [8K], and, where clips are heard once, `tokens` [K, tokens, C]. Floats are half precision. Audio
    is of `heard_latents` latents: it begins earlier.
    """

    def __init__(
        self, vae: VideoVae, model: ModelConfig, source: ClipSource, config: BankConfig, seed: int,
        *, autocast: bool, heard_by: AudioEncoder | None = None, num_parts: int = 1,
        with_frames: bool = False,
    ) -> None:  # fmt: skip
        """
        Args:
            heard_by: makes the tokens; None: they are left out.
            with_frames: True: records hold `frames` and `frame_masks` too, as in `ClipWindow`.
            num_parts: of the batch; number n is of part n modulo `num_parts`.
        """
        if model.video.height_px != model.video.width_px:
            raise ConfigError("training clips are square: want width_px = height_px")
        self._vae, self._source, self._config, self._seed = vae, source, config, seed
        self._size_px = model.video.height_px
        self._autocast = autocast
        self._heard_by = heard_by
        self._num_parts = num_parts
        self._with_frames = with_frames
        self._shown: tuple[int, ClipWindow] | None = None
        names = [control.name for control in model.controls.controls]
        self._controls = torch.tensor([CONTROL_INDEX[n] for n in names], device=source.device)

    @torch.no_grad()
    def __call__(self, number: int) -> Record:
        """The record of a number: of a clip, or of one of its variants."""
        device, window = self._source.device, self._window(number)
        with torch.autocast(device.type, torch.bfloat16, enabled=self._autocast):
            latents = self._vae.encode(to_video(window.frames)[None]).mean[0].transpose(0, 1)
            portraits = to_video(window.portraits[:, None])
            pictures = self._vae.encode(portraits).mean[:, :, 0]
        masks = token_masks(window.masks, SPATIAL_FACTOR // MASK_STRIDE, FRAMES_PER_LATENT)
        gains = torch.tensor(_MASK_GAINS, device=device)[:, None, None]
        record = {
            "latents": latents.half(),
            "pictures": pictures.half(),
            "masks": (masks * gains).clamp(max=1).half(),
            "pcm": window.pcm.half(),
            "controls": window.controls[:, self._controls].half(),
            "keypoints": window.keypoints.half(),
            "mouth": window.mouth,
            "visemes": window.visemes,
        }
        if self._with_frames:
            record |= {"frames": window.frames, "frame_masks": window.masks}
        if self._heard_by is not None:
            record["tokens"] = self._tokens(self._heard_by, window.pcm, number, len(latents))
        return _without_last(record) if self._config.variants else record

    def apart(self, index: int) -> int:
        """The first number of a clip of the first part: of another person for every index."""
        return index * self._num_parts * max(1, self._config.variants)

    def _window(self, number: int) -> ClipWindow:
        """Variants of a clip follow one another within their part, so it is kept for the next."""
        variants = self._config.variants
        place, part = divmod(number, self._num_parts)
        clip = place // max(1, variants) * self._num_parts + part
        if self._shown is None or self._shown[0] != clip:
            window = self._source.window(clip, self._config, self._size_px, self._seed)
            self._shown = clip, window
        window = self._shown[1]
        return vary(window, self._generator(number, 2)) if variants else window

    def _tokens(self, audio: AudioEncoder, pcm: Tensor, number: int, num_latents: int) -> Tensor:
        generator = self._generator(number, 1, pcm.device)
        return window_tokens(audio, augment_batch(pcm[None], generator), num_latents)[0].half()

    def _generator(
        self, number: int, purpose: int, device: torch.device | str = "cpu"
    ) -> torch.Generator:
        seed = np.random.default_rng([self._seed, number, purpose]).integers(2**62)
        return torch.Generator(device).manual_seed(int(seed))


def _without_last(record: Record) -> Record:
    """Less the last latent and what belongs to its frames; audio stays."""
    frames = ("controls", "keypoints", "mouth", "visemes")
    ends = dict.fromkeys(frames, -FRAMES_PER_LATENT) | {"pcm": None}
    return {name: value[: ends.get(name, -1)] for name, value in record.items()}
