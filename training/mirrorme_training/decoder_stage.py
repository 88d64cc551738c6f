"""The last stage: the decoder alone learns to draw what the denoiser makes, told face and hands.

Its latents are those of streams, as sessions have them, not those of the encoder: what the denoiser
leaves blurred or half closed, the decoder sees so in training, beside the true frames.
"""

from __future__ import annotations

import dataclasses

import torch
from mirrorme_model.avatar import AvatarModel
from mirrorme_model.conditions import Conditions
from mirrorme_model.denoiser import join_cues
from mirrorme_model.face_code import OPENING_UNIT
from mirrorme_model.hand_cues import hand_cues, told_hands
from mirrorme_model.vae_config import (
    FRAMES_PER_LATENT,
    SPATIAL_FACTOR,
)
from mirrorme_model.vae_layers import unfold_frames
from torch import Tensor, nn

from mirrorme_training.clip_bank import ClipBank, Record
from mirrorme_training.clip_casting import to_pixels, to_video
from mirrorme_training.clip_window import MASK_STRIDE, ClipSource, cut_tokens
from mirrorme_training.control_pairs import JAW_DOWN, ControlPairs
from mirrorme_training.flow_batch import draw_dropped, moved_alone, take_chunks
from mirrorme_training.latent_clips import LatentClips
from mirrorme_training.lip_closings import CLOSED, lip_closings
from mirrorme_training.parts import WHOLE, Parts
from mirrorme_training.pixel_weights import mask_weights, near_hands, squared_movement
from mirrorme_training.recipe import BankConfig, DecoderStageConfig, RecipeError
from mirrorme_training.rollout import roll_out
from mirrorme_training.stage import Picture, averaged_copy, shows_pictures, spread_indices, tile
from mirrorme_training.vae_loss import pixel_loss, psnr_db

_CLIPS, _PICTURES, _PAIRS = range(3)
"""Kinds of steps."""
_STRIP_CLIPS = 4
_STRIP_FRAMES = 8
_DRAWN = 0.05
"""A token whose sketch is brighter anywhere has a hand in it."""


class DecoderStage:
    """See `Stage`."""

    def __init__(
        self, model: AvatarModel, config: DecoderStageConfig, source: ClipSource, seed: int, *,
        autocast: bool, parts: Parts = WHOLE,
    ) -> None:  # fmt: skip
        video, chunk = model.config.video, model.config.chunk
        rows, columns = config.crop_tokens
        if not (0 < rows <= video.latent_height and 0 < columns <= video.latent_width):
            raise RecipeError(
                f"crop_tokens are {rows} x {columns}: want 1 to {video.latent_height} x "
                f"{video.latent_width}"
            )
        if config.bank.window_latents < chunk.num_latents:
            raise RecipeError(
                f"bank.window_latents is {config.bank.window_latents}: want at least "
                f"{chunk.num_latents}, a chunk"
            )
        if not model.vae.config.decoder or not model.vae.config.decoder.causal:
            raise RecipeError(f"preset {model.config.preset} has no causal decoder to train")
        if model.denoiser.face_code is None:
            raise RecipeError("these weights have no face code to tell: run stage code before")
        self.model = model
        self.average = averaged_copy(model)
        self._config, self._seed = config, seed
        self._clips = LatentClips(
            self.average.vae, model.config, source, config.bank, seed, autocast=autocast,
            heard_by=self.average.audio, num_parts=parts.count, with_frames=True,
        )  # fmt: skip
        self._bank = ClipBank(config.bank, self._make, parts)
        self._pairs = ControlPairs(
            self.average, config.crop_tokens, seed, source.device,
            faint_lips=config.pair_faint_lips,
        )  # fmt: skip
        self._pair_odds = self._pairs.odds(config.pair_turned_share, config.pair_favoured)
        paired = BankConfig(num_clips=config.paired_people, renew_every_steps=0)
        self._pair_bank = (
            ClipBank(paired, self._pairs, parts, "paired_people")
            if config.pairs_every_steps
            else None
        )
        model.requires_grad_(False)
        assert model.vae.decoder is not None
        model.vae.decoder.requires_grad_(True).train()
        self.trained = nn.ModuleDict({"model": nn.ModuleDict({"vae": model.vae})})
        self.clips_per_step = config.batch

    def compile(self) -> None:
        """See `Stage`."""
        decoder = self.model.vae.decoder
        assert decoder is not None
        decoder.draw_window = torch.compile(decoder.draw_window)

    def advance(self, step: int) -> None:
        """See `Stage`."""
        self._bank.advance(step)
        if self._pair_bank is not None:
            self._pair_bank.advance(step)

    def show(self, part: int) -> None:
        """See `Stage`."""
        self._bank.show(part)
        if self._pair_bank is not None:
            self._pair_bank.show(part)

    def kind(self, step: int) -> int:
        """See `Stage`."""
        if shows_pictures(step, self._config.pictures_every_steps):
            return _PICTURES
        return _PAIRS if shows_pictures(step, self._config.pairs_every_steps) else _CLIPS

    def loss(self, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """See `Stage`."""
        kind, config = self.kind(step), self._config
        if kind == _PAIRS:
            config = dataclasses.replace(config, deviation_weight=config.pair_deviation_weight)
        draw = {
            _CLIPS: self._draw_clips, _PICTURES: self._draw_pictures, _PAIRS: self._draw_pairs
        }[kind]  # fmt: skip
        video, weights, made = draw(generator)
        difference = made.float() - video
        loss = pixel_loss(difference, weights, config)
        return loss, {"psnr_db": psnr_db(difference.detach())}

    def _draw_pictures(self, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Whole frames, weights and what is made of them as portraits, told what faces do there."""
        bank, config = self._bank, self._config
        slots = self._integers(len(bank), config.picture_batch, generator)
        frames = bank["frames"]
        moments = self._integers(
            (frames.shape[1] - 1) // FRAMES_PER_LATENT, config.picture_batch, generator
        )
        shown = slots, moments * FRAMES_PER_LATENT
        video = to_video(frames[shown][:, None])
        latents = self.model.vae.encode(video).mean.transpose(1, 2)
        code = bank["code"][slots, moments][:, None].float()
        # Of 8 equal frames, as the last one is.
        code[..., :FRAMES_PER_LATENT] = code[..., FRAMES_PER_LATENT - 1 : FRAMES_PER_LATENT]
        last = moments * FRAMES_PER_LATENT + FRAMES_PER_LATENT - 1
        hands = bank["keypoints"][slots, last][:, None].expand(-1, FRAMES_PER_LATENT, -1, -1, -1)
        hands = self._told(hands, generator)
        made = self.model.vae.decode(join_cues(latents, code, hands).transpose(1, 2))
        # Faces count no more than the rest: portraits are what everything is told by.
        weights = mask_weights(
            bank["frame_masks"][shown][:, None], 0.0, config.picture_mouth_weight
        )
        return video, weights, made

    def _draw_pairs(self, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """As `_draw_clips`, of a latent of somebody at rest and then one with a control moved."""
        bank, config = self._pair_bank, self._config
        assert bank is not None
        slots = self._integers(len(bank), config.pair_batch, generator)
        bases = torch.tensor(self._pairs.bases, device=slots.device)
        first = JAW_DOWN + 1
        moved = torch.multinomial(self._pair_odds, config.pair_batch, True, generator=generator)
        moved += first
        shown = slots[:, None], torch.stack([bases[moved], moved], dim=1)
        video = to_video(bank["frames"][shown]).repeat_interleave(FRAMES_PER_LATENT, dim=2)
        code = self._further_closed(bank["code"][shown].float(), generator).flatten(0, 1)
        latents = bank["made"][shown].flatten(0, 1)
        hand_channels = self.model.vae.config.hand_channels
        no_hands = latents.new_zeros(len(latents), 1, hand_channels, *latents.shape[2:])
        told = join_cues(latents[:, None].float(), code[:, None], no_hands)
        # As if it had lasted.
        made = self._decode(self.model, told.expand(-1, 2, -1, -1, -1))
        made = made.unflatten(0, (-1, 2)).transpose(1, 2).flatten(2, 3)
        masks = bank["masks"][slots][:, None]
        weights = mask_weights(masks, config.face_weight, config.mouth_weight)
        weights = weights * squared_movement(video, weights) ** -config.pair_evenness
        return video, weights.expand(-1, -1, video.shape[2], -1, -1), made

    def _further_closed(self, code: Tensor, generator: torch.Generator) -> Tensor:
        """Codes of pairs `[B, 2, E]`, where lips that stay closed are said to be closed further."""
        opening, rest = code.tensor_split((FRAMES_PER_LATENT,), dim=-1)
        closed = (OPENING_UNIT * opening < CLOSED).all(dim=(1, 2), keepdim=True)
        ratio = torch.rand(len(code), 1, 1, device=code.device, generator=generator)
        ratio = self._config.pair_closer_ratio * ratio
        return torch.cat((opening - closed * ratio / OPENING_UNIT, rest), dim=-1)

    def _draw_clips(self, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Squares of frames `[B, 3, T, H, W]`, weights and what is made of their latents."""
        config, bank = self._config, self._bank
        closings = self._closings()
        odds = closings.any(dim=1).float()
        odds *= config.closing_share / odds.sum().clamp(min=1)
        # Sums of many shares may be a little above 1.
        odds += (1 - odds.sum()).clamp(min=0) / len(bank)
        slots = torch.multinomial(odds, config.batch, replacement=True, generator=generator)
        hands = self._told(bank["keypoints"][slots], generator)
        sketch = self._sketch(hands)
        places = self._places(slots, sketch, generator)
        rows, columns = (index.tolist() for index in places)
        chance = torch.rand(config.batch, device=slots.device, generator=generator)
        chance = chance[:, None, None, None, None]
        unheard = config.encoded + (1 - config.encoded) * config.unheard
        made = torch.where(chance < unheard, bank["made_unheard"][slots], bank["made"][slots])
        latents = torch.where(chance < config.encoded, bank["latents"][slots], made).float()
        if sketch is not None:
            unseen = torch.rand(config.batch, device=slots.device, generator=generator)
            unseen = (unseen < config.unseen)[:, None, None, None, None]
            at_hands = sketch.amax(dim=2, keepdim=True) > _DRAWN
            latents = torch.where(unseen & at_hands, latents[:, :1], latents)
        latents = join_cues(latents, bank["code"][slots].float(), hands)
        height, width = config.crop_tokens
        seen, videos, masks = [], [], []
        for i, (row, column) in enumerate(zip(rows, columns, strict=True)):
            seen.append(latents[i, :, :, row : row + height, column : column + width])
            frames = bank["frames"][slots[i], 1:]
            videos.append(cut_tokens(frames, row, column, config.crop_tokens, SPATIAL_FACTOR, 1))
            shown = bank["frame_masks"][slots[i], 1:]
            stride = SPATIAL_FACTOR // MASK_STRIDE
            masks.append(cut_tokens(shown, row, column, config.crop_tokens, stride, 2))
        cropped = torch.stack(seen)
        made = self._decode(self.model, cropped)
        closing = closings[slots][:, None, :, None, None]
        weights = mask_weights(
            torch.stack(masks),
            config.face_weight,
            config.mouth_weight + config.closing_weight * closing,
        )
        if hands is not None:
            told = told_hands(cropped[:, 1:, -hands.shape[2] :])
            near = near_hands(told.flatten(0, 1), height * SPATIAL_FACTOR, width * SPATIAL_FACTOR)
            weights += config.hand_weight * unfold_frames(near, len(slots))
        return to_video(torch.stack(videos)), weights, made

    def _decode(self, model: AvatarModel, latents: Tensor) -> Tensor:
        """`[B, K, C, h, w]` to the frames of all latents but the first, which stands before them.

        It is repeated as far as the decoder looks back, as at the start of a session.
        """
        before = latents[:, :1].expand(-1, model.vae.config.context_latents - 1, -1, -1, -1)
        return model.vae.decode_chunk(torch.cat([before, latents], dim=1).transpose(1, 2))

    def _told(self, keypoints: Tensor, generator: torch.Generator) -> Tensor | None:
        """Cues of `[B, 8·F, 2, 21, 3]`, left out now and then; None: the model has none."""
        video = self.model.config.video
        if not self.model.vae.config.hand_channels:
            return None
        told = torch.rand(len(keypoints), device=keypoints.device, generator=generator)
        told = told >= self._config.untold
        keypoints = keypoints.float() * told[:, None, None, None, None]
        return hand_cues(keypoints, video.latent_height, video.latent_width)

    def _sketch(self, hands: Tensor | None) -> Tensor | None:
        """Where hands are that cues tell."""
        decoder = self.model.vae.decoder
        if hands is None or decoder is None or decoder.hand_sketch is None:
            return None
        return decoder.hand_sketch(told_hands(hands), *hands.shape[3:])

    def _places(
        self, slots: Tensor, sketch: Tensor | None, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """First row and column of each square, drawn by how much face, or hands, is in it."""
        height, width = self._config.crop_tokens
        shown = self._bank["masks"][slots].float().mean(dim=(1, 2))
        if sketch is not None:
            hands = sketch.mean(dim=(1, 2))
            drawn = torch.rand(len(slots), device=slots.device, generator=generator)
            at_hands = (drawn < self._config.at_hands) & hands.flatten(1).any(dim=1)
            shown = torch.where(at_hands[:, None, None], hands, shown)
        inside = nn.functional.avg_pool2d(shown[:, None], (height, width), stride=1)[:, 0]
        odds = inside / inside.amax(dim=(1, 2), keepdim=True).clamp(min=1e-6)
        odds = odds**4 + self._config.elsewhere / odds[0].numel()
        drawn = torch.multinomial(odds.flatten(1), 1, generator=generator)[:, 0]
        return drawn // odds.shape[2], drawn % odds.shape[2]

    def _closings(self) -> Tensor:
        """Where lips close for a moment in what is trained of each clip, `[N, T]`."""
        code = self._bank["code"][:, 1:, :FRAMES_PER_LATENT]
        return lip_closings(OPENING_UNIT * code.float().flatten(1))

    def _integers(self, high: int, count: int, generator: torch.Generator) -> Tensor:
        device = self._bank["frames"].device
        return torch.randint(high, (count,), device=device, generator=generator)

    @torch.no_grad()
    def _make(self, number: int) -> Record:
        """What a clip is trained with: frames, the encoder's latents, the denoiser's, the code."""
        model, config = self.average, self._config
        record = self._clips(number)
        device = record["frames"].device
        draw = torch.Generator(device).manual_seed(self._seed * 1_000_003 + number)
        one = torch.zeros(1, dtype=torch.long, device=device)
        bank = {name: value[None] for name, value in record.items()}
        length = model.config.chunk.num_latents
        count = (len(record["latents"]) - 1) // length
        kept = 1 + count * length
        moved = moved_alone(bank["controls"], bank["visemes"], model.config)
        given = draw_dropped(model.config, config.dropout, 1, draw, moved)
        given = dataclasses.replace(given, audio=torch.zeros_like(given.audio))
        identity = bank["pictures"][:, 0].float()
        fresh = torch.rand(1, device=device, generator=draw) < config.fresh
        first = identity if fresh else bank["latents"][:, 0].float()
        motion = first[:, None].expand(-1, model.config.chunk.motion_latents, -1, -1, -1)
        chunks = []
        for start in range(1, kept, length):
            batch = take_chunks(bank, one, one, one + start, length, identity, motion)
            tokens = bank["tokens"][:, start : start + length].float()
            chunks.append(batch.conditions(tokens, given))
        noise = torch.randn((1, count, length, *identity.shape[1:]), device=device, generator=draw)
        made = self._rolled_out(first, chunks, noise)
        unheard = [
            dataclasses.replace(c, expression=torch.zeros_like(c.expression)) for c in chunks
        ]
        frames = 1 + (kept - 1) * FRAMES_PER_LATENT
        return {
            "frames": record["frames"][:frames],
            "frame_masks": record["frame_masks"][:frames],
            "masks": record["masks"][:kept],
            "latents": record["latents"][:kept],
            "made": made.half(),
            "made_unheard": self._rolled_out(first, unheard, noise).half(),
            "code": self._code(bank, given.control_weights)[0, :kept].half(),
            "keypoints": (given.hands * record["keypoints"])[: kept * FRAMES_PER_LATENT].half(),
        }

    def _rolled_out(self, first: Tensor, chunks: list[Conditions], noise: Tensor) -> Tensor:
        """What the denoiser makes after the latent `first`, `[1, C, h, w]`: `[1 + F, C, h, w]`."""
        return torch.cat([first, roll_out(self.average.denoiser, chunks, noise, None)[0]])

    def _code(self, bank: dict[str, Tensor], weights: Tensor) -> Tensor:
        """The true one, and what is guessed where nobody knows: `[1, K, E]`."""
        code = self.average.denoiser.face_code
        assert code is not None
        controls = bank["controls"].float()
        truth = code.truth(bank["mouth"].float(), controls)
        known = weights[:, None] * ~controls.isnan()
        guess = code(
            bank["tokens"].float(), torch.ones_like(weights[:, 0]), controls.nan_to_num(), known
        )
        return torch.where(truth.isnan(), guess, truth)

    def held_out(self) -> dict[str, Tensor]:
        """See `Stage`."""
        return {}

    @torch.no_grad()
    def strip(self) -> Picture:
        """See `Stage`."""
        rows: list[Tensor] = []
        bank = self._bank
        for slot in range(min(_STRIP_CLIPS, len(bank))):
            made, code, hands = (bank[name][slot][None] for name in ("made", "code", "keypoints"))
            told = None
            if self.average.vae.config.hand_channels:
                told = hand_cues(hands.float(), *made.shape[3:])
            latents = join_cues(made.float(), code.float(), told)
            made = to_pixels(self._decode(self.average, latents))[0]
            frames = bank["frames"][slot, 1:]
            shown = spread_indices(len(frames), _STRIP_FRAMES)
            rows += [frames[shown], made[shown]]
        return tile(rows)

    def finish(self) -> None:
        """See `Stage`: nothing to do."""
