"""Checkpoints: what is written is read, and what does not fit is refused by name."""

import json
from pathlib import Path

import pytest
import torch
from mirrorme_model.avatar import AvatarModel
from mirrorme_model.checkpoint import load_checkpoint, save_checkpoint
from mirrorme_model.errors import CheckpointError
from mirrorme_model.presets import preset
from safetensors.torch import load_file, save_file


@pytest.fixture(scope="module")
def model() -> AvatarModel:
    return AvatarModel.random(preset("tiny"), seed=5)


@pytest.fixture
def path(model: AvatarModel, tmp_path: Path) -> Path:
    path = tmp_path / "tiny.safetensors"
    save_checkpoint(path, model, trained=True, provenance={"steps": 12, "data": "drawn"})
    return path


def header_of(path: Path) -> dict:
    content = path.read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return json.loads(header["__metadata__"]["mirrorme"])


def test_what_is_saved_is_loaded(model: AvatarModel, path: Path) -> None:
    loaded = load_checkpoint(path)
    assert loaded.trained
    assert loaded.provenance == {"steps": 12, "data": "drawn"}
    assert loaded.model.config == model.config
    assert loaded.model.weights_sha256() == model.weights_sha256()
    assert not loaded.model.training


def test_the_same_weights_give_the_same_bytes(model: AvatarModel, path: Path) -> None:
    other = path.with_name("other.safetensors")
    for _ in range(5):
        save_checkpoint(other, model, trained=True, provenance={"data": "drawn", "steps": 12})
        assert other.read_bytes() == path.read_bytes()
    assert sorted(p.name for p in path.parent.iterdir()) == ["other.safetensors", path.name]


def test_half_precision_is_half_the_size(model: AvatarModel, path: Path) -> None:
    half = path.with_name("half.safetensors")
    save_checkpoint(half, model, trained=False, provenance={}, dtype="float16")
    assert half.stat().st_size < 0.6 * path.stat().st_size
    loaded = load_checkpoint(half)
    assert not loaded.trained
    for name, tensor in loaded.model.state_dict().items():
        torch.testing.assert_close(tensor, model.state_dict()[name], atol=1e-3, rtol=1e-3)
        assert tensor.dtype == torch.float32


def test_weights_that_do_not_fit_half_precision_are_refused(tmp_path: Path) -> None:
    model = AvatarModel.random(preset("tiny"), seed=5)
    with torch.no_grad():
        model.denoiser.token_types[0, 0] = 1e6
    with pytest.raises(CheckpointError, match=r"denoiser\.token_types is not finite"):
        save_checkpoint(tmp_path / "x", model, trained=True, provenance={}, dtype="float16")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("config", None, "mirrorme lacks settings: config"),
        ("licence", "x", "mirrorme has unknown settings: licence"),
        ("format", 9, "mirrorme.format is 9: want 1"),
        ("format", None, "mirrorme.format is None: want 1"),
        ("trained", "yes", "mirrorme.trained is 'yes': want bool"),
        ("provenance", [], "mirrorme.provenance is "),
        ("config", {}, "mirrorme.config lacks settings: audio, chunk"),
    ],
)
def test_bad_headers_are_refused(path: Path, key: str, value: object, message: str) -> None:
    header = header_of(path)
    if value is None:
        del header[key]
    else:
        header[key] = value
    save_file(load_file(path), path, {"mirrorme": json.dumps(header)})
    with pytest.raises(CheckpointError, match=message) as error:
        load_checkpoint(path)
    assert str(path) in str(error.value)


def test_weights_that_do_not_fit_are_refused_by_name(path: Path) -> None:
    tensors, header = load_file(path), header_of(path)
    del tensors["denoiser.base.proj_out.bias"]
    tensors["denoiser.extra"] = torch.zeros(1)
    tensors["denoiser.token_types"] = torch.zeros(2, 2)
    save_file(tensors, path, {"mirrorme": json.dumps(header)})
    with pytest.raises(CheckpointError) as error:
        load_checkpoint(path)
    message = str(error.value)
    assert "denoiser.base.proj_out.bias is missing" in message
    assert "denoiser.extra is unknown" in message
    assert "denoiser.token_types is [2, 2], want [3, 32]" in message


def test_files_that_are_no_checkpoints_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint"):
        load_checkpoint(tmp_path / "none")
    (tmp_path / "text").write_text("hello, I am not a checkpoint")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_checkpoint(tmp_path / "text")
    save_file({"x": torch.zeros(1)}, tmp_path / "text", {"mirrorme": "{"})
    with pytest.raises(CheckpointError, match="mirrorme is not JSON"):
        load_checkpoint(tmp_path / "text")
    save_file({"x": torch.zeros(1)}, tmp_path / "other")
    with pytest.raises(CheckpointError, match="not a MirrorMe checkpoint"):
        load_checkpoint(tmp_path / "other")
