"""Stage 0: the VAE learns to reconstruct frames, most of all faces and mouths."""

from __future__ import annotations

import torch
from mirrorme_model.avatar import AvatarModel
from mirrorme_model.vae_config import FRAMES_PER_LATENT
from mirrorme_model.video_encoder import VideoEncoder
from torch import Tensor, nn

from mirrorme_training.basis_fit import fit_basis
from mirrorme_training.clip_bank import ClipBank, Record
from mirrorme_training.clip_casting import to_pixels, to_video
from mirrorme_training.clip_window import MASK_STRIDE, ClipSource
from mirrorme_training.parts import WHOLE, Parts
from mirrorme_training.recipe import RecipeError, VaeStageConfig
from mirrorme_training.stage import Picture, averaged_copy, shows_pictures, spread_indices, tile
from mirrorme_training.vae_loss import kl_divergence, pixel_loss, psnr_db

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
        source: ClipSource,
        seed: int,
        *,
        fresh: bool,
        parts: Parts = WHOLE,
    ) -> None:
        """`fresh`: the weights are random, so the latents begin almost without noise."""
        self._clip_frames = 1 + FRAMES_PER_LATENT * config.clip_latents
        if config.clip_latents > config.bank.window_latents:
            raise RecipeError(
                f"clip_latents is {config.clip_latents}: want at most bank.window_latents, "
                f"{config.bank.window_latents}"
            )
        if config.bank.variants:
            raise RecipeError("bank.variants is for stages that hear speech")
        size_px = model.config.video.height_px
        if config.crop_px is not None and (config.crop_px > size_px or config.crop_px % 32):
            raise RecipeError(f"crop_px is {config.crop_px}: want a multiple of 32 up to {size_px}")
        if fresh and config.train != "all":
            raise RecipeError('train = "decoder" wants --init, a checkpoint with an encoder')
        self._fresh = fresh
        if fresh and model.vae.encoder is not None:
            _start_sharp(model.vae.encoder)
        self.model = model
        self.average = averaged_copy(model)
        self._config, self._source, self._seed = config, source, seed
        self._size_px = size_px
        self._bank = ClipBank(config.bank, self._make, parts)
        model.requires_grad_(False)
        learner = model.vae if config.train == "all" else model.vae.decoder
        if learner is None:
            raise RecipeError(
                f'train = "decoder": preset {model.config.preset} has no networks there'
            )
        learner.requires_grad_(True).train()
        self.trained = nn.ModuleDict({"model": nn.ModuleDict({"vae": model.vae})})
        self.clips_per_step = config.batch

    def compile(self) -> None:
        """See `Stage`."""
        for networks in (self.model.vae.encoder, self.model.vae.decoder):
            if networks is not None:
                networks.compile()

    def advance(self, step: int) -> None:
        """See `Stage`."""
        self._bank.advance(step)
        if self._fresh and step == 0:
            fit_basis(self.model.vae, self._bank, self._seed)
            self.average.vae.load_state_dict(self.model.vae.state_dict())
            self._fresh = False
            if self.model.vae.encoder is None:
                self.finish()

    def show(self, part: int) -> None:
        """See `Stage`."""
        self._bank.show(part)

    def kind(self, step: int) -> int:
        """See `Stage`."""
        return int(shows_pictures(step, self._config.pictures_every_steps))

    def loss(self, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """See `Stage`."""
        config = self._config
        batch, length = config.batch, self._clip_frames
        if self.kind(step):
            batch, length = config.picture_batch, 1
        video, weights = self._draw(batch, length, generator)
        posterior = self.model.vae.encode(video)
        made = self.model.vae.decode(
            self._sample(posterior.mean, posterior.log_variance, generator)
        )
        difference = made.float() - video
        kl = kl_divergence(posterior)
        loss = pixel_loss(difference, weights, config) + config.kl_weight * kl
        numbers = {"psnr_db": psnr_db(difference.detach()), "kl": kl.detach()}
        return loss, numbers

    @torch.no_grad()
    def finish(self) -> None:
        """Sets the statistics of the averaged model's latents."""
        if self._config.train != "all":
            return
        vae, bank = self.average.vae, self._bank
        means: list[Tensor] = []
        for slot in range(min(_STATISTICS_CLIPS, len(bank))):
            video = to_video(bank["frames"][slot : slot + 1, : self._clip_frames])
            means.append(vae.raw_latents(video)[0][0].flatten(1))
        values = torch.cat(means, dim=1).float()
        std = values.std(dim=1)
        vae.scale.mean.copy_(values.mean(dim=1))
        vae.scale.std.copy_(std.clamp(min=float(std.max()) * _MIN_STD_SHARE))

    def held_out(self) -> dict[str, Tensor]:
        """See `Stage`."""
        return {}

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
        """Frames `[B, 3, T, H, W]`, cut out and some mirrored, and weights `[B, 1, T, H, W]`."""
        config, bank, device = self._config, self._bank, self._source.device

        def integers(high: int) -> Tensor:
            return torch.randint(high, (batch, 1, 1, 1), device=device, generator=generator)

        size = self._size_px if config.crop_px is None else config.crop_px
        cells, spare = size // MASK_STRIDE, (self._size_px - size) // MASK_STRIDE + 1
        starts = integers(bank["frames"].shape[1] - length + 1)
        slots, tops, lefts = integers(len(bank)), integers(spare), integers(spare)
        frames = starts + torch.arange(length, device=device)[:, None, None]

        def cut(name: str, stride: int) -> Tensor:
            along = torch.arange(cells * stride, device=device)
            rows, columns = stride * tops + along[:, None], stride * lefts + along
            return bank[name][slots, frames, rows, columns]

        video = to_video(cut("frames", MASK_STRIDE))
        seen = cut("masks", 1).movedim(-1, 1).float() / 255
        seen = nn.functional.interpolate(seen, scale_factor=(1.0, *[float(MASK_STRIDE)] * 2))
        face, mouth = seen.split(1, dim=1)
        weights = 1 + config.face_weight * face + config.mouth_weight * mouth
        mirrored = (integers(2) == 1)[..., None]
        video = torch.where(mirrored, video.flip(-1), video)
        return video, torch.where(mirrored, weights.flip(-1), weights)

    def _make(self, number: int) -> Record:
        window = self._source.window(number, self._config.bank, self._size_px, self._seed)
        return {"frames": window.frames, "masks": window.masks.movedim(1, -1)}


@torch.no_grad()
def _start_sharp(encoder: VideoEncoder) -> None:
    """The last output channel is the log variance of all others."""
    bias = encoder.conv_out.conv.bias
    if bias is not None:
        bias[-1] = _FIRST_LOG_VARIANCE
