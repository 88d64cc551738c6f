"""Clips as the denoiser trains on them: painted, encoded by the frozen VAE, with their truth."""

from __future__ import annotations

import torch
from mirrorme_model.config import ModelConfig
from mirrorme_model.errors import ConfigError
from mirrorme_model.vae import VideoVae
from mirrorme_model.vae_config import FRAMES_PER_LATENT, SPATIAL_FACTOR
from torch import Tensor, nn

from mirrorme_training.clip_bank import Record
from mirrorme_training.clip_casting import cast, paint, to_video
from mirrorme_training.clip_store import ClipStore
from mirrorme_training.portrait_pose import CONTROL_INDEX
from mirrorme_training.recipe import BankConfig

MOUTH_CONTROLS = (
    "jawOpen",
    "mouthClose",
    "mouthFunnel",
    "mouthPucker",
    "mouthStretchLeft",
)
"""What audio tokens are asked for besides the opening: they are of the model's controls."""
_LEAD_FRAMES = FRAMES_PER_LATENT - 1
_FACE_GAIN = 2.0
_MOUTH_GAIN = 4.0
"""A token counts as mouth in full from a quarter of its pixels on."""


class LatentClips:
    """Makes records of one clip each.

    With K = num_frames / 8, latent i >= 1 of `latents` is of frames 8i to 8i + 7, and is heard in
    audio tokens i. The clip starts 7 frames late, so that its first frame is a latent by itself.

    Fields: `latents` [K, C, h, w] (the first is a picture's), `pictures` [K, C, h, w] of frames
    8i + 7, `masks` [K, 2, h, w] face and mouth in 0 to 1, `pcm` [N] clean, `controls`
    [8K, controls] and `keypoints` [8K, 2, 21, 3] as the denoiser takes them, `mouth` [8K] opening
    ratio, `visemes` [8K]. Floats are half precision.
    """

    def __init__(
        self, vae: VideoVae, model: ModelConfig, store: ClipStore, config: BankConfig, seed: int,
        *, autocast: bool,
    ) -> None:  # fmt: skip
        if model.video.height_px != model.video.width_px:
            raise ConfigError("procedural portraits are square: want width_px = height_px")
        self._vae, self._store, self._config, self._seed = vae, store, config, seed
        self._size_px = model.video.height_px
        self._autocast = autocast
        names = [control.name for control in model.controls.controls]
        self._controls = torch.tensor([CONTROL_INDEX[n] for n in names], device=store.device)

    @torch.no_grad()
    def __call__(self, number: int) -> Record:
        """The record of a clip's number."""
        store = self._store
        casting = cast(number, store, self._config, self._seed)
        later = slice(_LEAD_FRAMES, None)
        shown = paint(casting, store, self._config, self._size_px, later)
        pose = store.pose(casting.clip, hands=self._config.hands)
        keypoints = shown.hand_keypoints * shown.hand_keypoints[..., 2:]
        lead = torch.zeros_like(keypoints[:_LEAD_FRAMES])
        masks = torch.stack([shown.face_mask, shown.mouth_mask], dim=1)
        with torch.autocast(store.device.type, torch.bfloat16, enabled=self._autocast):
            latents = self._vae.encode(to_video(shown.frames)[None]).mean[0].transpose(0, 1)
            every = shown.frames[::FRAMES_PER_LATENT, None]
            pictures = self._vae.encode(to_video(every)).mean[:, :, 0]
        return {
            "latents": latents.half(),
            "pictures": pictures.half(),
            "masks": _token_masks(masks).half(),
            "pcm": store.audio(casting.clip).half(),
            "controls": pose.controls[:, self._controls].half(),
            "keypoints": torch.cat([lead, keypoints]).half(),
            "mouth": torch.cat([shown.mouth_open_ratio[:1].expand(7), shown.mouth_open_ratio]),
            "visemes": store.visemes(casting.clip),
        }


def _token_masks(masks: Tensor) -> Tensor:
    """`[1 + 8k, 2, H, W]` uint8 to `[1 + k, 2, h, w]`: the most of any frame of the latent."""
    pooled = nn.functional.avg_pool2d(masks.float() / 255, SPATIAL_FACTOR)
    frames = pooled[1:].unflatten(0, (-1, FRAMES_PER_LATENT)).amax(dim=1)
    gains = torch.tensor([_FACE_GAIN, _MOUTH_GAIN], device=masks.device)[:, None, None]
    return (torch.cat([pooled[:1], frames]) * gains).clamp(max=1)
