"""`prepare` from videos to windows: what is kept, what is said, what a killed run leaves."""

from __future__ import annotations

import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import webdataset
from click.testing import CliRunner
from mirrorme_training.cli import main
from mirrorme_training.clip_window import UNKNOWN_VISEME, heard_latents
from mirrorme_training.footage import recorded_clips
from mirrorme_training.footage.errors import FootageError
from mirrorme_training.footage.footage_config import FootageConfig
from mirrorme_training.footage.preparation import find_videos, prepare
from mirrorme_training.footage.recorded_clips import RecordedClips, is_recorded
from mirrorme_training.footage.report import REPORT_NAME
from mirrorme_training.portrait_pose import CONTROL_INDEX, CONTROLS
from mirrorme_training.recipe import BankConfig, RecipeError
from mirrorme_training.speech_shards import ShardError

from tests.training.footage_videos import (
    DrawnHeads,
    draw_head,
    example_speech,
    spoken_opening,
    talking,
    write_video,
)

CONFIG = FootageConfig(size_px=64, framings=("close_up",), min_s=3.0, max_s=4.0)
BANK = BankConfig(close_up=1.0, window_latents=5)


class Quiet:
    """A watch that keeps what was said."""

    def __init__(self) -> None:
        self.said: dict[str, str] = {}

    def begin(self, video: Path) -> None:
        pass

    def advance(self, video: Path, share: float) -> None:
        assert 0 <= share <= 1

    def end(self, video: Path, said: str) -> None:
        self.said[video.name] = said


def run(
    videos: list[Path], output: Path, heads: DrawnHeads | None = None,
    config: FootageConfig = CONFIG,
) -> tuple[list[dict[str, Any]], Quiet]:  # fmt: skip
    watch = Quiet()
    return prepare(videos, output, config, lambda: heads or DrawnHeads(), watch), watch


def verdicts(story: dict[str, Any]) -> set[str]:
    return {piece["verdict"] for piece in story["dropped"]}


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return talking(tmp_path_factory.mktemp("video") / "me.mp4")


@pytest.fixture(scope="module")
def dataset(video: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    run([video], folder)
    return folder


def test_a_person_who_talks_is_kept(dataset: Path) -> None:
    (story,) = [json.loads(p.read_text()) for p in (dataset / "videos").iterdir()]
    assert [clip["num_frames"] for clip in story["clips"]] == [84, 84]
    assert not story["dropped"] and not story["error"]
    assert abs(story["clips"][0]["sync_lag_frames"]) <= 1
    page = (dataset / REPORT_NAME).read_text()
    for clip in story["clips"]:
        assert (
            f"report/{clip['picture']}" in page and (dataset / "report" / clip["picture"]).exists()
        )
    assert not list((dataset / "parts").iterdir())


def test_windows_are_what_was_seen_and_heard(dataset: Path) -> None:
    source = RecordedClips(dataset)
    assert is_recorded(dataset) and source.num_clips == 2
    sound = torch.from_numpy(example_speech())
    opening = torch.from_numpy(spoken_opening(example_speech(), 168)).float()
    starts = set()
    for number in range(6):
        window = source.window(number, BANK, 64, seed=3)
        assert window.frames.shape == (41, 64, 64, 3) and window.frames.dtype == torch.uint8
        assert window.masks.shape == (41, 2, 16, 16) and window.masks.dtype == torch.uint8
        assert window.controls.shape == (48, len(CONTROLS))
        assert window.keypoints.shape == (48, 2, 21, 3) and window.keypoints.isfinite().all()
        assert (window.visemes == UNKNOWN_VISEME).all()
        assert len(window.pcm) == heard_latents(5) * 16000 // 3
        # Where in the video: the first of the window's 48 frames is heard two seconds in.
        own = window.pcm[32000:64000]
        first = next(
            f for f in range(0, 168 - 40, 3)
            if torch.corrcoef(torch.stack([own, sound[f * 2000 // 3 :][:32000]]))[0, 1] > 0.9
        )  # fmt: skip
        starts.add(first)
        measured = window.mouth[7:]
        assert torch.corrcoef(torch.stack([measured, opening[first + 7 :][:41]]))[0, 1] > 0.95
        dark = (window.frames[..., 0].float() - window.frames[..., 1].float() > 60).float()
        shown = dark.mean(dim=(1, 2))
        assert torch.corrcoef(torch.stack([shown, measured]))[0, 1] > 0.9
        before = sound[max(0, first * 2000 // 3 - 32000) : first * 2000 // 3]
        heard = window.pcm[:32000][32000 - len(before) :]
        if len(before):
            assert torch.corrcoef(torch.stack([heard, before]))[0, 1] > 0.9
        assert not window.pcm[: 32000 - len(before)].any()
    assert len(starts) >= 2
    again = source.window(5, BANK, 64, seed=3)
    assert torch.equal(again.frames, window.frames) and torch.equal(again.pcm, window.pcm)


def test_unknown_controls_are_marked_and_known_ones_are_not(dataset: Path) -> None:
    controls = RecordedClips(dataset).window(0, BANK, 64, seed=0).controls
    assert controls[:, CONTROL_INDEX["jawOpen"]].isfinite().all()
    assert controls[:, CONTROL_INDEX["browInnerUp"]].isnan().all()


def test_footage_prepared_before_a_control_existed_still_trains(
    dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorded_clips, "CONTROLS", (*CONTROL_INDEX, "comesLater"))
    controls = RecordedClips(dataset).window(0, BANK, 64, seed=0).controls
    assert controls.shape[1] == len(CONTROL_INDEX) + 1 and controls[:, -1].isnan().all()


def test_windows_can_be_smaller_but_not_larger_nor_longer(dataset: Path) -> None:
    source = RecordedClips(dataset)
    small = source.window(0, BANK, 32, seed=0)
    assert small.frames.shape == (41, 32, 32, 3) and small.masks.shape == (41, 2, 8, 8)
    with pytest.raises(RecipeError, match="64 pixels"):
        source.window(0, BANK, 128, seed=0)
    with pytest.raises(RecipeError, match="longest is of 84 frames"):
        source.window(0, BankConfig(close_up=1.0, window_latents=15), 64, seed=0)
    with pytest.raises(RecipeError, match="no half body clip"):
        source.window(0, BankConfig(close_up=0.0, window_latents=5), 64, seed=0)


def test_a_shard_that_is_not_whole_is_refused(dataset: Path, tmp_path: Path) -> None:
    index = json.loads((dataset / "footage.json").read_text())
    (tmp_path / "footage.json").write_text(json.dumps(index))
    with pytest.raises(ShardError):
        RecordedClips(tmp_path)
    assert not is_recorded(tmp_path / "none")
    with pytest.raises(ShardError, match="no folder of footage"):
        RecordedClips(tmp_path / "none")


def test_webdataset_reads_the_shards(dataset: Path) -> None:
    with (dataset / "clips-00000.tar").open("rb") as shard:
        members = list(webdataset.tariterators.tar_file_iterator(shard))
    samples = list(
        webdataset.tariterators.group_by_keys({**member, "__url__": ""} for member in members)
    )
    assert len(samples) == 2
    assert {"mp4", "flac", "npz", "json"} <= samples[0].keys()
    assert json.loads(samples[0]["json"])["key"] == samples[0]["__key__"]


def test_each_bad_video_says_why_and_loses_no_other(video: Path, tmp_path: Path) -> None:
    speech = example_speech()[:64000]
    still = [draw_head(0.3)] * 96
    narrated = write_video(tmp_path / "narrated.mp4", still, speech)
    silent = write_video(tmp_path / "silent.mp4", still, np.zeros_like(speech))
    mute = write_video(tmp_path / "mute.mp4", still[:24], None)
    garbage = tmp_path / "garbage.mp4"
    garbage.write_bytes(np.random.default_rng(0).bytes(9999))
    late = talking(tmp_path / "late.mp4", lag_frames=9)
    nobody = write_video(
        tmp_path / "nobody.mp4", [np.full((160, 192, 3), 90, np.uint8)] * 96, speech
    )
    far = talking(tmp_path / "far.mp4", 4.0, face=0.09)
    bad = [garbage, mute, narrated, silent, late, nobody, far]
    stories, _ = run([*bad, video], tmp_path / "out")
    by_name = {story["name"]: story for story in stories}
    assert "cannot be read" in by_name["garbage.mp4"]["error"]
    assert "no sound" in by_name["mute.mp4"]["error"]
    assert verdicts(by_name["narrated.mp4"]) == {"other_voice"}
    assert verdicts(by_name["silent.mp4"]) == {"no_speech"}
    assert verdicts(by_name["late.mp4"]) == {"out_of_sync"}
    assert "ms late" in by_name["late.mp4"]["dropped"][0]["detail"]
    assert verdicts(by_name["nobody.mp4"]) == {"no_face"}
    assert verdicts(by_name["far.mp4"]) == {"face_small"}
    assert len(by_name["me.mp4"]["clips"]) == 2
    page = (tmp_path / "out" / REPORT_NAME).read_text()
    assert "somebody speaks, but this mouth rests" in page and "nobody.mp4" in page
    assert RecordedClips(tmp_path / "out").num_clips == 2


def test_people_who_rest_are_kept_if_asked_for(tmp_path: Path) -> None:
    still = [draw_head(0.0)] * 96
    silent = write_video(tmp_path / "a.mp4", still, np.zeros(64000, np.float32))
    config = FootageConfig(
        size_px=64, framings=("close_up",), min_s=3.0, max_s=4.0, keep_silent=True
    )
    (story,), _ = run([silent], tmp_path / "out", config=config)
    assert len(story["clips"]) == 1


def test_shots_do_not_share_a_clip(tmp_path: Path) -> None:
    speech = example_speech()
    opening = spoken_opening(speech, 168)
    pictures = [
        draw_head(o, scene=int(i >= 90), x=0.4 if i < 90 else 0.6) for i, o in enumerate(opening)
    ]
    joined = write_video(tmp_path / "two.mp4", pictures, speech)
    (story,), _ = run([joined], tmp_path / "out")
    spans = [(c["first_frame"], c["first_frame"] + c["num_frames"]) for c in story["clips"]]
    assert spans and all(b <= 90 or a >= 90 for a, b in spans)
    assert len({tuple(c["crop_px"]) for c in story["clips"]}) == len(spans)


@contextmanager
def disk_of(num_bytes: int) -> Iterator[None]:
    """No file may grow larger, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_runs_that_are_stopped_go_on(video: Path, dataset: Path, tmp_path: Path) -> None:
    other = talking(tmp_path / "other.mp4", 4.0, x=0.45)
    whole = tmp_path / "whole"
    run([video, other], whole)

    def die(number: int) -> None:
        if number == 60 and len(heads.opened) == 2:
            raise KeyboardInterrupt

    heads = DrawnHeads(before_faces=die)
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        run([video, other], out, heads)
    first = next((out / "videos").iterdir()).stat().st_mtime_ns
    with disk_of(9000), pytest.raises(FootageError, match="no space left"):
        run([video, other], out)
    heads = DrawnHeads()
    _, watch = run([video, other], out, heads)
    assert len(heads.opened) == 1, "the finished video is not done again"
    assert watch.said["me.mp4"] == "was done before"
    assert min(p.stat().st_mtime_ns for p in (out / "videos").iterdir()) == first
    assert RecordedClips(out).data_hash == RecordedClips(whole).data_hash
    heads = DrawnHeads()
    run([video, other], out, heads)
    assert not heads.opened


def test_videos_are_added_to_a_folder_of_the_same_settings(video: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.mp4"
    copy.write_bytes(video.read_bytes())
    _, watch = run([video, copy], tmp_path / "out")
    assert "the same as" in watch.said["copy.mp4"]
    run([talking(tmp_path / "more.mp4", 4.0, x=0.42)], tmp_path / "out")
    assert RecordedClips(tmp_path / "out").num_clips == 3
    assert len(list((tmp_path / "out").glob("clips-*.tar"))) == 2
    with pytest.raises(FootageError, match=r"other settings \(size_px"):
        run([video], tmp_path / "out", config=FootageConfig())


def test_folders_are_searched_for_videos(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for name in ("deep/b.MOV", "a.mp4", "notes.txt"):
        (tmp_path / name).touch()
    assert [p.name for p in find_videos([tmp_path])] == ["a.mp4", "b.MOV"]
    with pytest.raises(FootageError, match="does not exist"):
        find_videos([tmp_path / "c.mp4"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(FootageError, match="no videos"):
        find_videos([tmp_path / "empty"])


def test_the_command_says_what_is_missing(video: Path, tmp_path: Path) -> None:
    nowhere = ["--mediapipe", str(tmp_path / "none"), "-o", str(tmp_path / "out")]
    result = CliRunner().invoke(main, ["prepare", str(video), *nowhere])
    assert result.exit_code == 1 and "install-mediapipe" in result.output
    result = CliRunner().invoke(main, ["prepare", str(video), *nowhere, "--size", "100"])
    assert "multiple of 32" in result.output
