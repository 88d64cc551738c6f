"""Stage 0: the VAE learns to reconstruct frames, most of all faces and mouths."""

from __future__ import annotations

import torch
from mirrorme_model.avatar import AvatarModel
from mirrorme_model.video_encoder import VideoEncoder
from torch import Tensor, nn

from mirrorme_training.clip_bank import ClipBank, Record
from mirrorme_training.clip_casting import cast, paint, to_pixels, to_video
from mirrorme_training.clip_store import ClipStore
from mirrorme_training.recipe import RecipeError, VaeStageConfig
from mirrorme_training.stage import Picture, averaged_copy, spread_indices, tile
from mirrorme_training.vae_loss import (
    edge_loss,
    kl_divergence,
    psnr_db,
    weighted_charbonnier,
    weighted_square,
)

_MASK_STRIDE = 4
_FIRST_LOG_VARIANCE = -6.0
_MIN_STD_SHARE = 0.05
"""Channels that say almost nothing are not blown up to deviation 1."""
_STATISTICS_CLIPS = 64
_STRIP_CLIPS = 4
_STRIP_FRAMES = 8


class VaeStage:
    """See `Stage`."""

    def __init__(
        self,
        model: AvatarModel,
        config: VaeStageConfig,
        store: ClipStore,
        seed: int,
        *,
        fresh: bool,
    ) -> None:
        """`fresh`: the weights are random, so the latents begin almost without noise."""
        self._clip_frames = 1 + 8 * config.clip_latents
        if not self._clip_frames <= config.bank.window_frames <= store.num_frames:
            raise RecipeError(
                f"bank.window_frames is {config.bank.window_frames}: want {self._clip_frames} "
                f"(1 + 8 clip_latents) to {store.num_frames} (the clips' frames)"
            )
        if fresh:
            _start_sharp(model.vae.encoder)
        self.model = model
        self.average = averaged_copy(model)
        self._config, self._store, self._seed = config, store, seed
        self._size_px = model.config.video.height_px
        self._bank = ClipBank(config.bank, self._make)
        model.requires_grad_(False)
        model.vae.requires_grad_(True).train()
        self.trained = nn.ModuleDict({"model": nn.ModuleDict({"vae": model.vae})})
        self.clips_per_step = config.batch

    def compile(self) -> None:
        """See `Stage`."""
        self.model.vae.encoder.compile()
        self.model.vae.decoder.compile()

    def advance(self, step: int) -> None:
        """See `Stage`."""
        self._bank.advance(step)

    def loss(self, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """See `Stage`."""
        config, every = self._config, self._config.pictures_every_steps
        pictures = every > 0 and step % every == every - 1
        batch, length = (config.picture_batch, 1) if pictures else (config.batch, self._clip_frames)
        video, weights = self._draw(batch, length, generator)
        posterior = self.model.vae.encode(video)
        made = self.model.vae.decode(
            self._sample(posterior.mean, posterior.log_variance, generator)
        )
        difference = made.float() - video
        kl = kl_divergence(posterior)
        loss = (
            weighted_charbonnier(difference, weights)
            + config.square_weight * weighted_square(difference, weights)
            + config.edge_weight * edge_loss(difference)
            + config.kl_weight * kl
        )
        numbers = {"psnr_db": psnr_db(difference.detach()), "kl": kl.detach()}
        return loss, numbers

    @torch.no_grad()
    def finish(self) -> None:
        """Sets the statistics of the averaged model's latents."""
        vae, bank = self.average.vae, self._bank
        means: list[Tensor] = []
        for slot in range(min(_STATISTICS_CLIPS, len(bank))):
            video = to_video(bank["frames"][slot : slot + 1, : self._clip_frames])
            means.append(vae.encoder(video)[0].transpose(0, 1).flatten(1))
        values = torch.cat(means, dim=1).float()
        std = values.std(dim=1)
        vae.scale.mean.copy_(values.mean(dim=1))
        vae.scale.std.copy_(std.clamp(min=float(std.max()) * _MIN_STD_SHARE))

    @torch.no_grad()
    def strip(self) -> Picture:
        """See `Stage`."""
        rows: list[Tensor] = []
        for slot in range(min(_STRIP_CLIPS, len(self._bank))):
            frames = self._bank["frames"][slot, : self._clip_frames]
            posterior = self.average.vae.encode(to_video(frames)[None])
            made = to_pixels(self.average.vae.decode(posterior.mean))[0]
            shown = spread_indices(len(frames), _STRIP_FRAMES)
            rows += [frames[shown], made[shown]]
        return tile(rows)

    def _sample(self, mean: Tensor, log_variance: Tensor, generator: torch.Generator) -> Tensor:
        spread = mean.detach().float().std() * self._config.latent_noise
        noise = torch.randn(mean.shape, device=mean.device, generator=generator)
        return mean + noise * (torch.exp(0.5 * log_variance.float()) + spread)

    def _draw(self, batch: int, length: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Frames `[B, 3, T, H, W]`, some mirrored, and weights `[B, 1, T, H, W]`."""
        config, bank, device = self._config, self._bank, self._store.device

        def integers(high: int) -> Tensor:
            return torch.randint(high, (batch,), device=device, generator=generator)

        slots, starts = integers(len(bank)), integers(config.bank.window_frames - length + 1)
        frames = starts[:, None] + torch.arange(length, device=device)
        video = to_video(bank["frames"][slots[:, None], frames])
        masks = bank["masks"][slots[:, None], frames].transpose(1, 2).float() / 255
        masks = nn.functional.interpolate(masks, scale_factor=(1.0, *[float(_MASK_STRIDE)] * 2))
        face, mouth = masks.split(1, dim=1)
        weights = 1 + config.face_weight * face + config.mouth_weight * mouth
        mirrored = (integers(2) == 1)[:, None, None, None, None]
        video = torch.where(mirrored, video.flip(-1), video)
        return video, torch.where(mirrored, weights.flip(-1), weights)

    def _make(self, number: int) -> Record:
        config, store = self._config.bank, self._store
        casting = cast(number, store, config, self._seed)
        start = int(casting.start * (store.num_frames - config.window_frames + 1))
        frames = slice(start, start + config.window_frames)
        shown = paint(casting, store, config, self._size_px, frames)
        masks = torch.stack([shown.face_mask, shown.mouth_mask], dim=1).float()
        return {
            "frames": shown.frames,
            "masks": nn.functional.avg_pool2d(masks, _MASK_STRIDE).to(torch.uint8),
        }


@torch.no_grad()
def _start_sharp(encoder: VideoEncoder) -> None:
    """The last output channel is the log variance of all others."""
    bias = encoder.conv_out.conv.bias
    if bias is not None:
        bias[-1] = _FIRST_LOG_VARIANCE
