"""Clips painted beforehand are those that are painted on demand."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from mirrorme_training.clip_casting import PaintedOnDemand
from mirrorme_training.clip_store import ClipStore
from mirrorme_training.clip_window import ClipWindow, heard_latents
from mirrorme_training.paint_manner import PaintManner
from mirrorme_training.painted_clips import PaintConfig, PaintedClips, write_painted
from mirrorme_training.portrait_pose import CONTROL_INDEX
from mirrorme_training.recipe import BankConfig, RecipeError
from mirrorme_training.speech_shards import ShardError

CONFIG = PaintConfig(num_clips=4, window_latents=2, size_px=32, close_up=0.5)


@pytest.fixture(scope="module")
def painted(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("painted")
    assert len(list(write_painted(folder, data, CONFIG))) == CONFIG.num_clips
    return folder


def bank(close_up: float) -> BankConfig:
    return BankConfig(close_up=close_up, window_latents=CONFIG.window_latents)


def same(a: ClipWindow, b: ClipWindow) -> bool:
    return torch.equal(a.frames, b.frames) and torch.allclose(a.pcm, b.pcm, atol=1e-3)


def test_windows_are_those_that_are_painted_on_demand(data: Path, painted: Path) -> None:
    close_up: list[bool] = json.loads((painted / "painted.json").read_text())["close_up"]
    live, stored = PaintedOnDemand(ClipStore(data)), PaintedClips(painted)
    for kind in (True, False):
        mine = [n for n, close in enumerate(close_up) if close == kind]
        wanted = [
            live.window(n, CONFIG.bank(close_up=kind), CONFIG.size_px, CONFIG.seed) for n in mine
        ]
        for number in range(len(mine)):
            got = stored.window(number, bank(float(kind)), CONFIG.size_px, seed=3)
            assert any(same(got, window) for window in wanted)
            assert len(got.pcm) == heard_latents(2) * 16000 // 3
            assert len(got.controls) == len(got.visemes) == 24


def test_painting_goes_on_and_never_mixes(data: Path, painted: Path) -> None:
    assert list(write_painted(painted, data, CONFIG)) == []
    with pytest.raises(ShardError, match="other painted clips"):
        list(write_painted(painted, data, dataclasses.replace(CONFIG, seed=1)))


def test_what_was_not_painted_is_named(painted: Path) -> None:
    stored = PaintedClips(painted)
    with pytest.raises(RecipeError, match="window_latents"):
        stored.window(0, dataclasses.replace(bank(0.0), window_latents=3), 32, 0)
    with pytest.raises(RecipeError, match="hands = False"):
        stored.window(0, dataclasses.replace(bank(0.0), hands=False), 32, 0)


def test_missing_clips_are_found_before_training(painted: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(painted, tmp_path / "painted")
    (folder / "clip-000001.npz").unlink()
    with pytest.raises(ShardError, match="clip-000001"):
        PaintedClips(folder)


def test_clips_of_an_earlier_version_are_refused(painted: Path, data: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(painted, tmp_path / "painted")
    with np.load(folder / "clip-000000.npz") as file:
        arrays = {name: file[name] for name in file.files if name != "portraits"}
    np.savez(folder / "clip-000000.npz", **arrays)
    with pytest.raises(ShardError, match="another version"):
        PaintedClips(folder)
    shards = shutil.copytree(data, tmp_path / "data")
    for path in shards.glob("*.npz"):
        with np.load(path) as file:
            arrays = {name: file[name] for name in file.files}
        np.savez(path, **{**arrays, "controls": arrays["controls"][..., :-1]})
    with pytest.raises(ShardError, match="another version"):
        ClipStore(shards)


def test_a_crop_is_a_part_of_the_whole_picture(data: Path) -> None:
    """But for the light that falls off towards a picture's edges."""
    source, one = PaintedOnDemand(ClipStore(data)), bank(0.0)
    whole, part = (
        source.painted([1], one, [PaintManner(128, crop_px=crop)], 0)[0].frames.float()
        for crop in (None, 64)
    )
    assert part.shape[1:3] == (64, 64)
    places = [(y, x) for y in (0, 32, 64) for x in (0, 32, 64)]
    apart = [(whole[:, y : y + 64, x : x + 64] - part).abs().mean() for y, x in places]
    assert min(apart) < 4 < sorted(apart)[1]


def test_clips_painted_together_are_those_painted_alone(data: Path) -> None:
    source, asked = PaintedOnDemand(ClipStore(data)), dataclasses.replace(bank(0.5), bare=0.5)
    manners = [PaintManner(32)] * 3
    together = source.painted(range(3), asked, manners, 0)
    for number, window in enumerate(together):
        (alone,) = source.painted([number], asked, manners[:1], 0)
        assert (window.frames.int() - alone.frames.int()).abs().max() <= 1
        assert (window.portraits.int() - alone.portraits.int()).abs().max() <= 1
        assert torch.equal(window.pcm, alone.pcm)


def test_bare_portraits_show_the_same_person_without_hands(data: Path) -> None:
    source, num_with_hands = PaintedOnDemand(ClipStore(data)), 0
    for number in range(8):
        (window,) = source.painted(
            [number], dataclasses.replace(bank(0.0), bare=1.0), [PaintManner(64)], 0
        )
        shown = window.frames[::8]
        apart = (window.portraits.int() - shown.int()).abs().amax(dim=-1) > 8
        hands = window.keypoints[7::8, ..., 2].flatten(1).any(dim=1)
        assert apart.flatten(1).any(dim=1)[hands].all()
        assert apart.float().mean() < 0.3
        num_with_hands += int(hands.any())
    assert num_with_hands


def test_less_liveliness_moves_the_head_less_and_the_mouth_as_much(data: Path) -> None:
    pose = ClipStore(data).pose(0)
    calm = PaintManner(64, liveliness=0.5, moving=frozenset({"head_roll"}), sway=0.5).calmed(pose)
    torch.testing.assert_close(calm.control("head_yaw"), 0.5 * pose.control("head_yaw"))
    torch.testing.assert_close(calm.sway, 0.5 * pose.sway)
    assert torch.equal(calm.control("head_roll"), pose.control("head_roll"))
    assert torch.equal(calm.control("jawOpen"), pose.control("jawOpen"))


def test_crops_are_trained_on_at_their_own_size(data: Path, tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, size_px=64, crop_px=32)
    list(write_painted(tmp_path, data, config))
    close = dataclasses.replace(bank(0.0), hands=False)
    assert PaintedClips(tmp_path).window(0, close, 32, 0).frames.shape[1:3] == (32, 32)
    with pytest.raises(RecipeError, match="pixels"):
        PaintedClips(tmp_path).window(0, close, 64, 0)


def test_silent_clips_are_never_still(data: Path, tmp_path: Path) -> None:
    """Painted still, they would teach that controls move nothing."""
    config = PaintConfig(4, window_latents=2, size_px=32, close_up=0.0, still=1.0)
    list(write_painted(tmp_path, data, config))
    stored, yaw = PaintedClips(tmp_path), CONTROL_INDEX["head_yaw"]
    for number in range(4):
        window = stored.window(number, bank(0.0), 32, 0)
        assert not window.pcm.any()
        assert window.controls[:, yaw].abs().max() > 0
