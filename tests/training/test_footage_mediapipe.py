"""`prepare` with the real MediaPipe. Installs it, into this environment, where it is not."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from mirrorme_training.clip_generator import ClipConfig, ClipGenerator
from mirrorme_training.clip_video import write_clip
from mirrorme_training.footage.face_geometry import controls_of
from mirrorme_training.footage.footage_config import FootageConfig
from mirrorme_training.footage.mediapipe_install import default_folder, install, mediapipe_python
from mirrorme_training.footage.mediapipe_process import MediapipeProcess
from mirrorme_training.footage.preparation import prepare
from mirrorme_training.footage.recorded_clips import RecordedClips
from mirrorme_training.portrait_pose import CONTROL_INDEX, rest_pose, with_controls
from mirrorme_training.portrait_renderer import render
from mirrorme_training.portrait_sampler import sample_identity
from mirrorme_training.recipe import BankConfig

from tests.training.test_footage_prepare import Quiet

pytestmark = pytest.mark.slow
ASSETS = Path(__file__).parents[3] / "shared" / "assets"
"""Recordings of people, which are not of this repository."""


@pytest.fixture(scope="module")
def python() -> Path:
    install(default_folder(), Path(sys.executable))
    return mediapipe_python(default_folder())


def test_turn_blinks_and_gaze_of_painted_portraits_are_measured(python: Path) -> None:
    random = np.random.default_rng(1)
    ranges = {
        "head_yaw": (-25, 25), "head_pitch": (-18, 18), "head_roll": (-18, 18),
        "gaze_x": (-0.9, 0.9), "eyeBlinkLeft": (0, 1), "jawOpen": (0, 0.8),
    }  # fmt: skip
    truth: dict[str, list[float]] = {name: [] for name in ranges}
    measured: dict[str, list[float]] = {name: [] for name in ranges}
    unknown = np.full((1, 52), np.nan, np.float32)
    with MediapipeProcess(python) as landmarker:
        for seed in range(40, 64):
            values = {name: float(random.uniform(*limits)) for name, limits in ranges.items()}
            who = sample_identity([seed], close_up=True)
            shown = render(who, with_controls(rest_pose(1), **values), 256)
            landmarker.restart()
            found = landmarker.landmarks(shown.frames[0].numpy())
            assert found.found_face
            controls = controls_of(found.face[None].astype(np.float64), unknown)[0]
            for name, value in values.items():
                truth[name].append(value)
                measured[name].append(controls[CONTROL_INDEX[name]])
    for name in ranges:
        known = np.isfinite(measured[name])
        pair = np.array(truth[name])[known], np.array(measured[name])[known]
        assert np.corrcoef(*pair)[0, 1] > 0.6, name


def test_a_procedural_clip_becomes_footage(python: Path, tmp_path: Path) -> None:
    config = ClipConfig(num_frames=168, framing="close_up", idle=0.0, augment=None)
    video = tmp_path / "made.mp4"
    write_clip(ClipGenerator(config).make(1, 101), video, 256)
    footage = FootageConfig(size_px=128, framings=("close_up",))
    (story,) = prepare(
        [video], tmp_path / "out", footage, lambda: MediapipeProcess(python), Quiet()
    )
    assert story["clips"], story["dropped"]
    window = RecordedClips(tmp_path / "out").window(
        0, BankConfig(close_up=1.0, window_latents=12), 128, seed=0
    )
    assert (window.masks[:, 0].float().mean(dim=(1, 2)) > 10).all(), "every frame shows a face"
    assert window.mouth.isfinite().all() and window.mouth.max() > 0.05
    assert window.controls[:, CONTROL_INDEX["head_yaw"]].isfinite().all()


@pytest.mark.skipif(not ASSETS.exists(), reason="recordings are not there")
def test_recordings_of_people(python: Path, tmp_path: Path) -> None:
    clips = ASSETS / "clips"
    names = ["talking_head_man.mp4", "listener_720p.mp4"]
    stories = prepare(
        [clips / name for name in names], tmp_path / "out",
        FootageConfig(framings=("close_up",)), lambda: MediapipeProcess(python), Quiet(),
    )  # fmt: skip
    by_name = {story["name"]: story for story in stories}
    assert len(by_name["talking_head_man.mp4"]["clips"]) == 2
    assert {p["verdict"] for p in by_name["listener_720p.mp4"]["dropped"]} == {"no_speech"}


@pytest.mark.skipif(not ASSETS.exists(), reason="recordings are not there")
def test_hands_are_the_persons_own(python: Path) -> None:
    from PIL import Image

    with Image.open(ASSETS / "portraits" / "woman_half_body.png") as file:
        picture = np.asarray(file.convert("RGB"))
    with MediapipeProcess(python) as landmarker:
        left, right = landmarker.landmarks(picture).hands
    # She faces the camera with her hands apart: her left one is at the picture's right.
    assert left[0, 0] > 0.5 > right[0, 0]
    assert np.isfinite(left).all() and np.isfinite(right).all()
