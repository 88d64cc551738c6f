"""Hand keypoints from files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from mirrorme_client.errors import UnreadableInput
from mirrorme_client.hand_file import read_hands


def test_npz_with_scores(tmp_path: Path) -> None:
    hands = np.random.default_rng(0).random((5, 2, 21, 2), np.float32)
    scores = np.full((5, 2, 21), 1.2, np.float32)
    np.savez(tmp_path / "a.npz", hands=hands, hands_score=scores)
    poses = read_hands(tmp_path / "a.npz")
    assert [pose.frame_index for pose in poses] == list(range(5))
    point = poses[3].right.keypoints[7]
    assert (point.x, point.y) == tuple(hands[3, 1, 7])
    assert point.visibility == 1


def test_npz_with_visibility(tmp_path: Path) -> None:
    hands = np.random.default_rng(0).random((2, 2, 21, 3))
    np.savez(tmp_path / "a.npz", hands=hands)
    point = read_hands(tmp_path / "a.npz")[1].left.keypoints[20]
    assert point.visibility == pytest.approx(hands[1, 0, 20, 2])


def test_json(tmp_path: Path) -> None:
    points = [[0.1, 0.2]] * 20 + [[0.3, 0.4, 0.5]]
    entries = [{"frame_index": 3, "left": points}, {"sample_index": 9, "right": points}]
    (tmp_path / "a.json").write_text(json.dumps(entries))
    first, second = read_hands(tmp_path / "a.json")
    assert first.frame_index == 3
    assert not first.HasField("right")
    assert not first.left.keypoints[0].HasField("visibility")
    assert first.left.keypoints[20].visibility == 0.5
    assert second.WhichOneof("time") == "sample_index"
    assert len(second.right.keypoints) == 21


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.npz", None, "No such file"),
        ("a.txt", "x", "neither"),
        ("a.npz", "not a zip", "not as expected"),
        ("a.json", "{", "not as expected"),
        ("a.json", "3", "not as expected"),
        ("a.json", "[3]", "not as expected"),
        ("a.json", '[{"left": null}]', "frame_index and sample_index"),
        ("a.json", '[{"frame_index": 0, "sample_index": 0}]', "one of"),
        ("a.json", '[{"frame_index": -1}]', "not as expected"),
        ("a.json", '[{"frame_index": 0, "left": [[0, 0]]}]', "1 points"),
        ("a.json", '[{"frame_index": 0, "middle": null}]', "unknown keys: middle"),
        ("a.json", '[{"frame_index": 0, "left": [' + "[0]," * 20 + "[0]]}]", "not as expected"),
    ],
)
def test_wrong_files(tmp_path: Path, name: str, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(UnreadableInput, match=message):
        read_hands(tmp_path / name)


def test_wrong_arrays(tmp_path: Path) -> None:
    for arrays, message in (
        ({"body": np.zeros(3)}, "no array 'hands', but body"),
        ({"hands": np.zeros((5, 2, 20, 2))}, "want"),
        ({"hands": np.zeros((5, 2, 21, 2)), "hands_score": np.zeros(5)}, "hands_score"),
        ({"hands": np.array(["x"])}, "not as expected"),
        ({"hands": np.array([{}])}, "not as expected"),
    ):
        np.savez(tmp_path / "a.npz", **arrays)
        with pytest.raises(UnreadableInput, match=message):
            read_hands(tmp_path / "a.npz")
