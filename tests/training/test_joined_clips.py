"""Several folders of clips as one."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from mirrorme_training.clip_window import ClipWindow
from mirrorme_training.joined_clips import JoinedClips
from mirrorme_training.recipe import BankConfig
from mirrorme_training.run_state import RunError

from tests.training.training_runs import train


@dataclass
class Numbers:
    """A source whose windows say which they are."""

    first: int
    num_clips: int
    is_endless: bool = False
    seeds: set[int] = field(default_factory=set)

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    @property
    def data_hash(self) -> str:
        return str(self.first)

    def window(self, number: int, bank: BankConfig, size_px: int, seed: int) -> ClipWindow:
        nothing = torch.zeros(0)
        self.seeds.add(seed)
        which = torch.tensor(self.first + number % self.num_clips)
        return ClipWindow(*[nothing] * 7, visemes=which)


def drawn(joined: JoinedClips, numbers: range) -> list[int]:
    return [int(joined.window(number, BankConfig(), 64, 0).visemes) for number in numbers]


def test_each_clip_of_all_folders_comes_once_a_lap() -> None:
    joined = JoinedClips([Numbers(0, 3), Numbers(100, 6)])
    assert joined.num_clips == 9 and not joined.is_endless
    for lap in range(2):
        shown = drawn(joined, range(9 * lap, 9 * lap + 9))
        assert sorted(shown) == [0, 1, 2, 100, 101, 102, 103, 104, 105]


def test_folders_take_turns_so_that_any_stretch_has_their_shares() -> None:
    shown = drawn(JoinedClips([Numbers(0, 30), Numbers(100, 60)]), range(30))
    assert Counter(number >= 100 for number in shown) == {False: 10, True: 20}


def test_each_folder_shows_people_of_its_own() -> None:
    one, other = Numbers(0, 3), Numbers(100, 3)
    drawn(JoinedClips([one, other]), range(6))
    assert len(one.seeds) == len(other.seeds) == 1 and one.seeds != other.seeds


def test_the_hash_names_all_folders() -> None:
    one, other = Numbers(0, 3), Numbers(100, 6)
    hashes = {JoinedClips(sources).data_hash for sources in ([one, other], [other], [one])}
    assert len(hashes) == 3


def test_stages_train_on_several_folders_and_those_of_speech_on_one(
    data: Path, tmp_path: Path
) -> None:
    assert len(train("vae", (data, data), tmp_path / "vae", steps=2)) == 2
    with pytest.raises(RunError, match="speech takes one --data: got 2"):
        train("speech", (data, data), tmp_path / "speech", steps=2)
