"""Figures of curves and frames whose answer is known."""

import shutil

import numpy as np
import pytest
from mirrorme_training.clip_generator import FIRST_TRAINING_SEED
from mirrorme_training.evaluation.curves import (
    best_lag,
    breathing,
    correlation,
    count_blinks,
    lagged,
    lips_that_closed,
    pause_frames,
    seam_ratio,
)
from mirrorme_training.evaluation.fitting_poses import silent_pose
from mirrorme_training.evaluation.likeness import (
    head_distances,
    moved_psnr_db,
    still_psnr_db,
    without_mouth,
)
from mirrorme_training.evaluation.unseen import PEOPLE, READERS, person, portrait, recite
from mirrorme_training.examples import PORTRAIT_SEEDS
from mirrorme_training.portrait_pose import rest_pose
from mirrorme_training.portrait_renderer import render
from mirrorme_training.speech_espeak import LANGUAGES, VARIANTS
from mirrorme_training.speech_visemes import VisemeSpan

SIZE_PX = 128


def noise_curve(count: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(count)


def test_people_and_voices_are_kept_from_training() -> None:
    assert max(PEOPLE) < FIRST_TRAINING_SEED
    assert not set(PEOPLE) & set(PORTRAIT_SEEDS)
    assert not {reader.variant for reader in READERS} & set(VARIANTS)
    assert {reader.language for reader in READERS} - set(LANGUAGES)


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")
@pytest.mark.parametrize("reader", READERS[::3], ids=lambda reader: reader.name)
def test_a_recital_closes_its_lips(reader) -> None:
    recital = recite(reader)
    assert recital.num_frames % 8 == 0
    assert len(recital.samples) == recital.num_frames * 2000 // 3
    opening = recital.mouth_opening(person(PEOPLE[0]))
    assert np.mean(lips_that_closed(opening, recital.spans)) >= 0.9
    assert opening.max() > 0.2
    assert len(recital.act(1)) == recital.num_frames


def test_lag_is_positive_where_the_mouth_is_late() -> None:
    truth = noise_curve(200)
    late = np.roll(truth, 3)
    assert best_lag([late], [truth]) == 3
    assert best_lag([truth], [late]) == -3
    assert lagged(late, truth, 3) == pytest.approx(1.0)


def test_a_curve_that_never_moves_follows_nothing() -> None:
    assert correlation(np.full(50, 0.3), noise_curve(50)) == 0.0


def test_lips_closed_in_one_frame_of_a_sound_count() -> None:
    spans = [VisemeSpan("pp", 1.0, 1.08), VisemeSpan("aa", 1.08, 1.5), VisemeSpan("pp", 1.5, 1.6)]
    opening = np.full(72, 0.3)
    opening[24] = 0.0
    assert lips_that_closed(opening, spans) == [True, False]


def test_pauses_are_found_between_sounds() -> None:
    samples = (0.3 * noise_curve(48000)).astype(np.float32)
    samples[16000:32000] *= 1e-3
    inside = pause_frames(samples, 72)
    assert inside[28:44].all()
    assert not inside[:24].any()
    assert not inside[49:].any()


def test_blinks_are_counted_and_sleep_is_not() -> None:
    closed = np.zeros(240)
    closed[20:24] = closed[100:103] = 1.0
    assert count_blinks(closed) == 2
    closed[120:220] = 1.0
    assert count_blinks(closed) == 2


def test_breath_is_seen_in_renderings_and_not_in_stills_or_noise() -> None:
    frames = render(person(PEOPLE[0]), silent_pose(4, 240), SIZE_PX).frames.numpy()
    assert breathing(frames).present
    assert not breathing(np.repeat(frames[:1], 240, axis=0)).present
    random = np.random.default_rng(0)
    assert not breathing(random.integers(0, 256, frames.shape, dtype=np.uint8)).present


def test_a_jump_at_seams_is_seen() -> None:
    frames = np.zeros((32, 8, 8, 3), np.uint8)
    frames += (np.arange(32, dtype=np.uint8) * 2)[:, None, None, None]
    assert seam_ratio(frames, 8) == (2.0, 2.0)
    frames[8:] += 10
    frames[16:] += 10
    at_seams, inside = seam_ratio(frames, 8)
    assert inside == 2.0
    assert at_seams == pytest.approx(2 + 20 / 3)


def test_likeness_forgives_movement_but_no_other_person() -> None:
    rest = render(person(PEOPLE[5]), rest_pose(1), SIZE_PX)
    picture = rest.frames[0].numpy()
    counted = without_mouth(rest.mouth_mask[0].numpy())
    other = portrait(person(PEOPLE[6]), SIZE_PX)
    moved = np.roll(picture, 3, axis=1)[None]
    assert 0.9 < counted.mean() < 1.0
    assert still_psnr_db(picture[None], picture, counted) > 60
    assert moved_psnr_db(moved, picture, counted) > still_psnr_db(moved, picture, counted) + 6
    assert moved_psnr_db(other[None], picture, counted) < 20


def test_the_mouth_takes_no_part_in_likeness() -> None:
    rest = render(person(PEOPLE[5]), rest_pose(1), SIZE_PX)
    picture = rest.frames[0].numpy()
    counted = without_mouth(rest.mouth_mask[0].numpy())
    changed = picture.copy()
    changed[~counted] = 0
    assert still_psnr_db(changed[None], picture, counted) > 60
    assert moved_psnr_db(changed[None], picture, counted) > 60


def test_heads_tell_people_apart() -> None:
    rests = [render(person(seed), rest_pose(1), SIZE_PX) for seed in PEOPLE[:12]]
    for index in range(len(rests)):
        moving = render(person(PEOPLE[index]), silent_pose(index, 24)[::12], SIZE_PX).frames.numpy()
        distances = [
            head_distances(moving, known.frames[0].numpy(), known.face_box_px[0].double().numpy())
            for known in rests
        ]
        assert (np.argmin(distances, axis=0) == index).all()
