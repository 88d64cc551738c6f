"""Who is shown, what is cut out, and whether mouth and voice belong together."""

from __future__ import annotations

import itertools
import subprocess
import sys

import numpy as np
import pytest
from mirrorme_training.footage.errors import FootageError
from mirrorme_training.footage.face_geometry import controls_of, head_turn, mouth_opening
from mirrorme_training.footage.face_masks import draw_masks
from mirrorme_training.footage.footage_config import FootageConfig
from mirrorme_training.footage.framing import choose_crop, judge_faces, main_person
from mirrorme_training.footage.landmarks import NUM_FACE_POINTS, FaceBox
from mirrorme_training.footage.picture_quality import sharpness
from mirrorme_training.footage.speech_sync import (
    measure_sync,
    measure_voice,
    voice_over_noise_db,
)
from mirrorme_training.footage.take_reader import bridge_gaps
from mirrorme_training.footage.verdicts import (
    Stretch,
    Verdict,
    cut_evenly,
    stretches,
    without_short,
)
from mirrorme_training.portrait_pose import CONTROL_INDEX, CONTROLS
from scipy import ndimage

from tests.training.footage_videos import RATE_HZ, example_speech, spoken_opening

CONFIG = FootageConfig(size_px=64)
SIZE_PX = (640, 360)


def box(x: float, y: float, height: float = 0.3) -> FaceBox:
    width = height * 360 / 640
    return FaceBox(x - width / 2, y - height / 2, x + width / 2, y + height / 2, 0.9)


def test_the_person_shown_largest_for_longest_is_followed_over_gaps() -> None:
    faces = [[box(0.3 + 0.002 * i, 0.5), box(0.8, 0.5, 0.15)] for i in range(30)]
    faces[10:13] = [[box(0.8, 0.5, 0.15)]] * 3
    person = main_person(faces)
    assert all(p is not None for p in person)
    middles = [(p.left + p.right) / 2 for p in person if p is not None]
    assert np.allclose(middles, 0.3 + 0.002 * np.arange(30), atol=1e-3)


@pytest.mark.parametrize("x", [0.05, 0.5, 0.95])
def test_crops_are_squares_inside_of_the_picture(x: float) -> None:
    for framing in ("close_up", "half_body"):
        crop = choose_crop(framing, [box(x, 0.3, 0.2)] * 9, *SIZE_PX)
        assert crop is not None
        assert 0 <= crop.left <= 640 - crop.side_px and 0 <= crop.top <= 360 - crop.side_px
        picture = np.zeros((360, 640, 3), np.uint8)
        assert crop.of(picture).shape == (crop.side_px, crop.side_px, 3)


def test_half_bodies_need_room_and_close_ups_less() -> None:
    large = [box(0.5, 0.5, 0.5)] * 9
    assert choose_crop("half_body", large, *SIZE_PX) is None
    assert choose_crop("close_up", large, *SIZE_PX) is not None
    near, far = (choose_crop(f, [box(0.5, 0.3, 0.2)], *SIZE_PX) for f in ("close_up", "half_body"))
    assert near is not None and far is not None and near.side_px < far.side_px


def test_frames_are_judged_by_their_faces() -> None:
    me = box(0.5, 0.4)
    faces = [[me], [me, box(0.62, 0.4)], [me, box(0.95, 0.4)], [], [box(0.9, 0.4)]]
    person = [me, me, me, None, box(0.9, 0.4)]
    crop = choose_crop("close_up", [me], *SIZE_PX)
    assert crop is not None
    assert judge_faces(faces, person, crop, SIZE_PX, CONFIG).tolist() == [
        Verdict.KEPT, Verdict.SEVERAL_FACES, Verdict.KEPT, Verdict.NO_FACE, Verdict.FACE_CUT,
    ]  # fmt: skip
    small = judge_faces(faces, person, crop, SIZE_PX, FootageConfig(size_px=512))
    assert set(small.tolist()) == {Verdict.FACE_SMALL}


def test_stretches_cover_every_frame_and_pieces_start_at_whole_samples() -> None:
    verdicts = np.array([0] * 5 + [1] * 3 + [0] * 50 + [2] * 2)
    parts = list(stretches(without_short(verdicts, 20), start=100))
    assert [(p.start, p.stop, p.verdict) for p in parts] == [
        (100, 105, Verdict.TOO_SHORT), (105, 108, Verdict.NO_FACE), (108, 158, Verdict.KEPT),
        (158, 160, Verdict.SEVERAL_FACES),
    ]  # fmt: skip
    for length in range(20, 400):
        pieces = cut_evenly(Stretch(101, 101 + length, Verdict.KEPT), 20, 60, 3)
        assert all(20 <= len(p) <= 60 and p.start % 3 == 0 for p in pieces)
        assert all(a.stop <= b.start for a, b in itertools.pairwise(pieces))
        assert sum(map(len, pieces)) >= length - 24 or not pieces
    assert not cut_evenly(Stretch(1, 20, Verdict.KEPT), 20, 60, 3)


def test_a_mouth_is_told_from_another_mouth_and_its_lag_is_measured() -> None:
    sound = example_speech()
    num_frames = int(len(sound) / RATE_HZ * 24)
    voice = measure_voice((sound * 32767).astype(np.int16), num_frames)
    opening = spoken_opening(sound, num_frames)
    assert (voice.speech > 0.5).mean() > 0.6
    same = measure_sync(opening, voice.level, 3)
    assert abs(same.lag_frames) <= 1 and same.height > 4
    for lag in (-8, 8):
        late = measure_sync(np.roll(opening, lag), voice.level, 3)
        assert abs(late.lag_frames - lag) <= 1 and late.r_near < 0.65 * late.r
    other = measure_sync(opening[::-1].copy(), voice.level, 3)
    assert other.height < 2.5


def test_music_fills_the_gaps_of_speech_and_is_no_speech() -> None:
    sound = example_speech()
    time_s = np.arange(len(sound)) / RATE_HZ
    music = np.sum([np.sin(2 * np.pi * f * time_s) for f in (220, 277, 330, 1320)], axis=0) / 8
    levels = {}
    for name, mixed in {"clean": sound, "both": sound * 0.5 + music, "music": music}.items():
        samples = (mixed.clip(-1, 1) * 32767).astype(np.int16)
        voice = measure_voice(samples, int(time_s[-1] * 24))
        levels[name] = voice_over_noise_db(voice.level)
        if name == "music":
            assert (voice.speech > 0.5).mean() < 0.1
    assert levels["clean"] > CONFIG.min_voice_db > levels["both"] > levels["music"]


def test_turns_have_the_signs_of_the_controls() -> None:
    face = np.random.default_rng(0).normal(size=(1, NUM_FACE_POINTS, 3)) * 0.01
    left, right = (33, 61, 234, 127), (263, 291, 454, 356)
    face[0, left, 0], face[0, right, 0] = -1, 1
    face[0, 10, 1], face[0, 152, 1] = -1, 1
    assert np.abs(head_turn(face)).max() < 3

    def turned(a: int, b: int, degrees: float) -> np.ndarray:
        angle = np.radians(degrees)
        points = face.copy()
        points[..., a] = np.cos(angle) * face[..., a] - np.sin(angle) * face[..., b]
        points[..., b] = np.sin(angle) * face[..., a] + np.cos(angle) * face[..., b]
        return head_turn(points)[0]

    # z grows away from the viewer: the nose is at negative z.
    assert abs(turned(2, 0, -20)[0] - 20) < 4 or abs(turned(2, 0, 20)[0] - 20) < 4
    assert abs(turned(0, 1, 15)[2] - 15) < 3, "clockwise in the picture is positive"


def test_what_geometry_does_not_measure_is_unknown() -> None:
    face = np.random.default_rng(0).normal(size=(4, NUM_FACE_POINTS, 3))
    unknown = np.full((4, 52), np.nan, np.float32)
    plain = controls_of(face, unknown)
    known = {n for n in CONTROLS if np.isfinite(plain[:, CONTROL_INDEX[n]]).any()}
    assert {"jawOpen", "eyeBlinkLeft", "head_yaw"} <= known
    assert "mouthPucker" not in known and "browInnerUp" not in known
    measured = controls_of(face, np.full((4, 52), 0.25, np.float32))
    assert (measured[:, CONTROL_INDEX["mouthPucker"]] == 0.25).all()
    face[2] = np.nan
    assert np.isnan(controls_of(face, unknown)[2]).all()
    assert np.isnan(mouth_opening(np.full((3, NUM_FACE_POINTS, 3), np.nan))).all()


def test_short_gaps_are_bridged_and_long_ones_are_not() -> None:
    points = np.arange(20.0)[:, None, None] * np.ones((1, 4, 3))
    points[3:6] = np.nan
    points[10:16] = np.nan
    bridged = bridge_gaps(points)
    assert np.allclose(bridged[3:6, 0, 0], [3, 4, 5])
    assert np.isnan(bridged[10:16]).all()


def test_hands_cover_the_face_in_masks() -> None:
    angles = np.linspace(0, 2 * np.pi, NUM_FACE_POINTS)
    face = np.stack([0.5 + 0.3 * np.sin(angles), 0.5 - 0.3 * np.cos(angles)], axis=1)
    face = np.concatenate([face, np.zeros((NUM_FACE_POINTS, 1))], axis=1)
    hands = np.full((2, 21, 2), np.nan)
    bare = draw_masks(face, hands, 128)
    assert bare.shape == (2, 32, 32) and bare.dtype == np.uint8
    hands[0] = np.random.default_rng(0).uniform([0.5, 0], [1, 1], (21, 2))
    covered = draw_masks(face, hands, 128)
    assert covered[0].sum() < 0.8 * bare[0].sum()
    assert (covered <= bare).all()


def test_blur_is_measured_whatever_the_size() -> None:
    picture = np.random.default_rng(0).integers(0, 255, (32, 32, 3)).astype(np.float32)
    face = np.array([[0.1, 0.1, 0], [0.9, 0.9, 0]])
    for zoom in (4, 8):
        sharp = ndimage.zoom(picture, (zoom, zoom, 1), order=0)
        soft = ndimage.gaussian_filter(sharp, (1.5 * zoom, 1.5 * zoom, 0))
        values = [sharpness(p.clip(0, 255).astype(np.uint8), face) for p in (sharp, soft)]
        assert values[0] > CONFIG.min_sharpness > 0 and values[1] < 0.5 * values[0]


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(FootageError, match="multiple of 32"):
        FootageConfig(size_px=250)
    with pytest.raises(FootageError, match="shortest"):
        FootageConfig(min_s=9, max_s=8)


def test_torch_keeps_its_threads() -> None:
    program = (
        "import numpy as np, torch\n"
        "torch.set_num_threads(3)\n"
        "from mirrorme_training.footage.speech_sync import measure_voice\n"
        "measure_voice(np.zeros(16000, np.int16), 24)\n"
        "print(torch.get_num_threads())\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.stdout.strip() == "3", result.stderr
