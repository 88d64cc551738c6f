"""Shards, casting, the bank, latent clips: what training sees is what was made, and in time."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from mirrorme_model.avatar import AvatarModel
from mirrorme_model.presets import preset
from mirrorme_training import speech_batch_augment
from mirrorme_training.clip_bank import ClipBank, Record
from mirrorme_training.clip_casting import (
    PaintedOnDemand,
    cast,
    paint,
    to_pixels,
    to_video,
)
from mirrorme_training.clip_generator import ClipConfig, ClipGenerator
from mirrorme_training.clip_store import ClipStore
from mirrorme_training.clip_window import ClipWindow
from mirrorme_training.flow_batch import draw_chunks, draw_dropped, moves
from mirrorme_training.latent_clips import LatentClips
from mirrorme_training.paint_manner import PaintManner, draw_manner
from mirrorme_training.recipe import BankConfig, DropoutConfig, FlowStageConfig
from mirrorme_training.speech_batch_augment import augment_batch
from mirrorme_training.speech_shards import (
    VISEME_NAMES,
    ShardError,
    data_hash,
    viseme_frames,
    write_shards,
)
from mirrorme_training.speech_visemes import VisemeSpan

from tests.training.training_runs import IDLE

BANK = BankConfig(num_clips=2, renew_every_steps=3, window_latents=5)


@pytest.fixture(scope="module")
def store(data: Path) -> ClipStore:
    return ClipStore(data)


def test_shards_hold_the_clips(store: ClipStore) -> None:
    generator = ClipGenerator(ClipConfig(IDLE.num_frames, idle=1.0, voices=(), augment=None))
    clip = generator.make(2)
    pose = store.pose(2)
    assert store.num_clips == IDLE.num_clips
    assert torch.allclose(pose.controls, clip.pose.controls, atol=0.02)
    assert torch.allclose(pose.breath, clip.pose.breath, atol=1e-3)
    assert torch.allclose(pose.shoulders, clip.pose.shoulders, atol=1e-3)
    assert torch.equal(pose.hand_shown, clip.pose.hand_shown)
    shown = clip.pose.hand_shown[:, :, None, None] > 0
    assert ((pose.hands - clip.pose.hands).abs() * shown).max() < 2e-3
    assert store.num_samples == IDLE.num_frames * 2000 // 3


def test_shards_go_on_where_they_were(data: Path, tmp_path: Path) -> None:
    first = next(iter(write_shards(tmp_path, IDLE)))
    written = first.stat().st_mtime_ns
    with pytest.raises(ShardError, match="missing"):
        ClipStore(tmp_path)
    assert len(list(write_shards(tmp_path, IDLE))) == IDLE.num_shards - 1
    assert first.stat().st_mtime_ns == written
    assert data_hash(tmp_path) == data_hash(data)


def test_visemes_are_of_the_middle_of_frames() -> None:
    frames = viseme_frames((VisemeSpan("aa", 0.05, 0.12), VisemeSpan("pp", 0.12, 0.2)), 6)
    names = [VISEME_NAMES[i] for i in frames]
    assert names == ["sil", "aa", "aa", "pp", "pp", "sil"]


def test_every_lap_uses_all_speech_and_new_people(store: ClipStore) -> None:
    castings = [cast(number, store, BANK, seed=0) for number in range(2 * store.num_clips)]
    assert sorted(c.clip for c in castings[: store.num_clips]) == list(range(store.num_clips))
    assert sorted(c.clip for c in castings[store.num_clips :]) == list(range(store.num_clips))
    assert len({c.identity_seed for c in castings}) == len(castings)
    assert min(c.identity_seed for c in castings) >= 10_000


def test_bank_is_a_function_of_the_step() -> None:
    made: list[int] = []

    def make(number: int) -> Record:
        made.append(number)
        return {"number": torch.tensor([number])}

    config = BankConfig(num_clips=3, renew_every_steps=2)
    slow, fast = ClipBank(config, make), ClipBank(config, make)
    for step in range(9):
        slow.advance(step)
    assert made == [0, 1, 2, 3, 4, 5, 6]
    fast.advance(8)
    assert torch.equal(slow["number"], fast["number"])
    assert sorted(fast["number"].flatten().tolist()) == [4, 5, 6]


def test_latents_are_of_the_frames_that_they_are_heard_with(store: ClipStore) -> None:
    config = preset("tiny")
    vae = AvatarModel.random(config, 0).vae
    record = LatentClips(vae, config, PaintedOnDemand(store), BANK, 0, autocast=False)(0)
    casting = cast(0, store, BANK, 0)
    pose = store.pose(casting.clip, hands=BANK.hands)
    manner = PaintManner(config.video.height_px)
    frames = paint([(casting, pose, manner)])[0].frames
    with torch.no_grad():
        # Latent 2 is of frames 16 to 23; the encoder is causal, so later frames do not matter.
        early = vae.encode(to_video(frames[7:24])[None]).mean[0, :, 2]
        picture = vae.encode(to_video(frames[23:24])[None]).mean[0, :, 0]
    assert torch.allclose(record["latents"][2].float(), early, atol=5e-3)
    assert torch.allclose(record["pictures"][2].float(), picture, atol=5e-3)
    assert torch.allclose(record["latents"][0], record["pictures"][0], atol=5e-3)
    assert len(record["controls"]) == len(record["keypoints"]) == store.num_frames
    assert len(record["mouth"]) == len(record["visemes"]) == store.num_frames
    pose = store.pose(casting.clip)
    assert torch.allclose(record["controls"].float(), pose.controls, atol=0.02)


def test_varied_clips_lose_a_latent_of_everything(store: ClipStore) -> None:
    torch.manual_seed(0)
    model = AvatarModel(preset("tiny")).eval().requires_grad_(False)
    bank = BankConfig(num_clips=2, window_latents=5, variants=1)
    make = LatentClips(
        model.vae, model.config, PaintedOnDemand(store), bank, 0, autocast=False,
        heard_by=model.audio,
    )  # fmt: skip
    record = make(0)
    lengths = {name: len(value) for name, value in record.items() if name != "pcm"}
    by_latent = dict.fromkeys(("latents", "pictures", "masks", "tokens"), 5)
    assert lengths == by_latent | dict.fromkeys(("controls", "keypoints", "mouth", "visemes"), 40)
    again = make(0)
    assert all(torch.equal(value, again[name]) for name, value in record.items())


class Counted(PaintedOnDemand):
    """Remembers what is asked for."""

    def __init__(self, store: ClipStore) -> None:
        super().__init__(store)
        self.asked: list[int] = []

    def window(self, number: int, bank: BankConfig, size_px: int, seed: int) -> ClipWindow:
        self.asked.append(number)
        return super().window(number, bank, size_px, seed)


def test_each_clip_is_shown_as_several_people_of_its_part(store: ClipStore) -> None:
    model = AvatarModel.random(preset("tiny"), 0)
    bank = BankConfig(num_clips=6, window_latents=5, variants=3)
    source = Counted(store)
    make = LatentClips(model.vae, model.config, source, bank, 0, autocast=False, num_parts=2)
    own = [make(number) for number in (0, 2, 4, 6)]
    assert source.asked == [0, 2]
    pictures = [record["pictures"].float() for record in own]
    for first, second in itertools.pairwise(pictures):
        assert (first - second).abs().mean() > 0.05 * first.abs().mean()
    source.asked.clear()
    for index in range(3):
        make(make.apart(index))
    assert source.asked == [0, 2, 4]


def test_chunks_follow_their_motion_and_show_the_same_person_elsewhere(store: ClipStore) -> None:
    config = preset("tiny")
    model = AvatarModel.random(config, 0)
    bank = ClipBank(
        BANK, LatentClips(model.vae, config, PaintedOnDemand(store), BANK, 0, autocast=False)
    )
    bank.advance(0)
    settings = FlowStageConfig(bank=BANK, batch=16, chunks_per_clip=4, session_start=0.25)
    batch = draw_chunks(bank, config, settings, torch.Generator().manual_seed(0))
    num_fresh = 0
    for row, start in enumerate(batch.starts.tolist()):
        clip = int(batch.clips[batch.rows[row]])
        latents, pictures = bank["latents"][clip].float(), bank["pictures"][clip].float()
        assert torch.equal(batch.target[row, 0], latents[start])
        assert torch.equal(batch.controls[row], bank["controls"][clip][8 * start :][:8].float())
        moment = next(i for i, p in enumerate(pictures) if torch.equal(p, batch.identity[row]))
        fresh = torch.equal(batch.motion[row, 0], batch.identity[row])
        num_fresh += fresh
        if fresh:
            assert moment == start - 1, "the stream goes on from the portrait"
        else:
            assert torch.equal(batch.motion[row, 0], latents[start - 1])
            assert abs(moment - start) >= 2
    assert 0 < num_fresh < len(batch.starts) / 2


def test_pixels_survive_the_way_to_the_vae_and_back() -> None:
    frames = torch.arange(2 * 3 * 4 * 5 * 3).reshape(2, 3, 4, 5, 3).to(torch.uint8)
    video = to_video(frames)
    assert video.shape == (2, 3, 3, 4, 5)
    assert torch.equal(to_pixels(video), frames)


def test_augmented_speech_keeps_its_time() -> None:
    time_s = np.arange(16000) / 16000
    # Of all frequencies, as some are taken out.
    hiss = np.random.default_rng(0).uniform(-1, 1, len(time_s))
    bursts = hiss * (np.sin(2 * np.pi * 3 * time_s) > 0)
    pcm = torch.tensor(np.stack([bursts, bursts, np.zeros_like(bursts)])).float().repeat(6, 1)
    heard = augment_batch(pcm, torch.Generator().manual_seed(0))
    assert heard.shape == pcm.shape and heard.abs().max() <= 1 and heard.isfinite().all()
    envelope = pcm[0].abs().unfold(0, 160, 160).mean(1)
    for row, sound in enumerate(heard):
        loudness = sound.abs().unfold(0, 160, 160).mean(1)
        if row % 3 == 2:
            assert 0 < loudness.max() < 0.05, "silence is never quite silent"
        else:
            assert torch.corrcoef(torch.stack([envelope, loudness]))[0, 1] > 0.6
    assert torch.equal(heard, augment_batch(pcm, torch.Generator().manual_seed(0)))


def test_breaths_are_heard_between_words_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    time_s = torch.arange(64000) / 16000
    hiss = torch.rand(64000, generator=torch.Generator().manual_seed(1)) * 2 - 1
    words = (hiss * ((time_s > 1) & (time_s < 2.5))).repeat(16, 1)
    breathing = augment_batch(words, torch.Generator().manual_seed(0))
    silenced = (-300.0, -300.0)
    monkeypatch.setattr(speech_batch_augment, "_BREATH_DB", silenced)
    breaths = breathing - augment_batch(words, torch.Generator().manual_seed(0))
    # Voices change a word's ends a little.
    assert not breaths[:, (time_s > 1) & (time_s < 2.5)].abs().gt(1e-6).any()
    between = breaths[:, (time_s < 0.8) | (time_s > 2.7)].abs().amax(1)
    assert (between > 1e-4).float().mean() > 0.5


def test_what_speech_does_not_move_is_given_where_it_moves(store: ClipStore) -> None:
    config = preset("tiny")
    model = AvatarModel.random(config, 0)
    bank = ClipBank(
        BANK, LatentClips(model.vae, config, PaintedOnDemand(store), BANK, 0, autocast=False)
    )
    bank.advance(0)
    names = [control.name for control in config.controls.controls]
    yaw, jaw = names.index("head_yaw"), names.index("jawOpen")
    bank["controls"][0, :, yaw] = 0.0
    bank["controls"][:, ::2, jaw] = 0.5
    bank["visemes"][1:] = 1
    settings = FlowStageConfig(bank=BANK, batch=16, chunks_per_clip=4)
    generator = torch.Generator().manual_seed(0)
    batch = draw_chunks(bank, config, settings, generator)
    first = batch.clips[batch.rows] == 0
    moved = moves(bank, config, batch)
    assert torch.equal(moved[:, yaw], ~first)
    assert torch.equal(moved[:, jaw], first), "without speech, speech does not tell it"
    dropout = DropoutConfig(controls=1.0)
    given = draw_dropped(config, dropout, len(moved), generator, moved).control_weights
    assert torch.equal(given, moved.float())


def test_clips_without_speech_are_never_still() -> None:
    still = BankConfig(still=1.0)
    spoken = draw_manner(0, still, 64, 0, speaks=True)
    silent = draw_manner(0, still, 64, 0, speaks=False)
    assert (spoken.liveliness, silent.liveliness) == (0.0, 1.0)


def test_the_square_around_the_mouth_may_be_painted_alone(store: ClipStore) -> None:
    source = PaintedOnDemand(store)
    window = source.window(0, BankConfig(window_latents=3, hands=False, whole_px=128), 64, 0)
    assert window.frames.shape[1:3] == (64, 64)
    mouth = window.masks[0, 1].nonzero().float().mean(dim=0)
    # Of 16 x 16; the square lies on the grid of tokens, up to 4 of these beside the mouth.
    assert ((mouth - 7.5).abs() < 5).all()
