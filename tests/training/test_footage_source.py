"""Reading users' videos: any rate, any turn, sound that starts late, files that are broken."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from mirrorme_training.footage.errors import VideoError
from mirrorme_training.footage.shots import ShotFinder
from mirrorme_training.footage.source_video import SourceVideo

from tests.training.footage_videos import (
    RATE_HZ,
    DrawnHeads,
    draw_head,
    example_speech,
    write_video,
)

_TURNED = b"".join(n.to_bytes(4, "big") for n in (0, 65536, 0, 2**32 - 65536, 0, 0, 0, 0, 2**30))
"""MP4's matrix for pictures that are shown a quarter turn clockwise, as phones write it."""
_SILENCE = np.zeros(RATE_HZ, np.float32)


def _grey(value: int) -> np.ndarray:
    return np.full((32, 32, 3), value, np.uint8)


@pytest.mark.parametrize("fps", [12, 25, 30, 60])
def test_every_moment_gets_the_nearest_picture(tmp_path: Path, fps: int) -> None:
    values = np.arange(fps) * 200 // fps + 20
    times = [i / fps for i in range(fps)]
    path = write_video(tmp_path / "a.mp4", [_grey(v) for v in values], _SILENCE, times_s=times)
    shown = [int(frame.mean()) for frame in SourceVideo(path).frames()]
    assert abs(len(shown) - 24) <= 1
    moments = np.arange(len(shown)) / 24
    nearest = values[np.abs(moments[:, None] - times).argmin(axis=1)]
    assert np.abs(np.array(shown) - nearest).max() <= 200 // fps + 2


def test_a_rate_that_varies_keeps_its_time(tmp_path: Path) -> None:
    times = [0, 0.1, 0.15, 0.2, 0.9, 1.0]
    values = [20, 60, 100, 140, 180, 220]
    path = write_video(tmp_path / "a.mp4", [_grey(v) for v in values], _SILENCE, times_s=times)
    shown = np.array([int(frame.mean()) for frame in SourceVideo(path).frames()])
    assert len(shown) in (24, 25)
    assert abs(shown[10] - 140) < 4 and abs(shown[15] - 180) < 4 and abs(shown[-1] - 220) < 4


def test_phones_portraits_stand_upright(tmp_path: Path) -> None:
    picture = np.full((64, 128, 3), 30, np.uint8)
    picture[:32, :64] = 220
    path = write_video(tmp_path / "a.mp4", [picture] * 24, _SILENCE)
    content = path.read_bytes()
    place = content.find(b"tkhd") + 44
    path.write_bytes(content[:place] + _TURNED + content[place + 36 :])
    frame = next(SourceVideo(path).frames())
    assert frame.shape == (128, 64, 3)
    assert frame[:60, 40:].mean() > 200, "the picture's left top is shown at the right top"
    assert frame[:60, :24].mean() < 50


def test_sound_starts_when_the_picture_does(tmp_path: Path) -> None:
    beep = np.zeros(RATE_HZ, np.float32)
    beep[8000:8400] = 0.8
    for late_s in (0.0, 0.5):
        path = write_video(tmp_path / f"{late_s}.mp4", [_grey(90)] * 48, beep, sound_start_s=late_s)
        samples = SourceVideo(path).sound().samples
        heard = np.flatnonzero(np.abs(samples) > 5000)[0]
        assert abs(heard - (8000 + late_s * RATE_HZ)) < 200


def test_what_is_no_video_is_named(tmp_path: Path) -> None:
    whole = write_video(tmp_path / "a.mp4", [_grey(90)] * 24, _SILENCE)
    mute = write_video(tmp_path / "mute.mp4", [_grey(90)] * 24, None)
    text, empty, half = (tmp_path / name for name in ("text.mp4", "empty.mp4", "half.mp4"))
    text.write_text("not a video " * 500)
    empty.touch()
    half.write_bytes(whole.read_bytes()[:800])
    with pytest.raises(VideoError, match="no sound"):
        SourceVideo(mute)
    for path in (text, empty, half, tmp_path):
        with pytest.raises(VideoError, match="cannot be read"):
            SourceVideo(path)


def test_a_damaged_video_is_used_up_to_the_damage(tmp_path: Path) -> None:
    sound = example_speech()[: 4 * RATE_HZ]
    pictures = [draw_head(0.5, x=0.3 + 0.004 * i) for i in range(96)]
    path = write_video(tmp_path / "a.mkv", pictures, sound)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    video = SourceVideo(path)
    num_frames = len(list(video.frames()))
    assert 0 < num_frames < 96


def test_cuts_are_found_and_movement_is_none() -> None:
    finder = ShotFinder()
    for i in range(72):
        finder.push(draw_head(0.3, scene=int(i >= 40), x=0.35 + 0.004 * i, y=0.5))
    assert finder.shots() == [range(0, 40), range(40, 72)]


def test_the_drawn_heads_are_found() -> None:
    (box,) = DrawnHeads().faces(draw_head(0.2, x=0.4, y=0.6, face=0.5))
    assert abs((box.left + box.right) / 2 - 0.4) < 0.03
    assert abs((box.top + box.bottom) / 2 - 0.6) < 0.03
    assert abs(box.height - 0.5) < 0.03
