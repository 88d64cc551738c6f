"""Hugging Face wav2vec2 folders, as transformers writes them: the same numbers, or refused."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch
from mirrorme_model.audio_config import WindowConfig
from mirrorme_model.errors import CheckpointError
from mirrorme_model.presets import preset, wav2vec2_base, wav2vec2_large
from mirrorme_model.published_wav2vec2 import WAV2VEC2, open_wav2vec2
from mirrorme_model.speech_backbone import SpeechBackbone, wav2vec2_config
from safetensors.torch import load_file, save_file
from transformers import Wav2Vec2ForCTC, Wav2Vec2ForPreTraining, Wav2Vec2Model

from tests.model.published_files import small_wav2vec2, write_hollow
from tests.model.small_models import speech

KINDS = ("base", "large")


def folder_of(kind: str, tmp_path: Path, network: type = Wav2Vec2Model) -> tuple[Path, object]:
    torch.manual_seed(0)
    made = network(small_wav2vec2(kind)).eval()
    made.save_pretrained(tmp_path / kind)
    return tmp_path / kind, made


@pytest.mark.parametrize("network", [Wav2Vec2Model, Wav2Vec2ForCTC, Wav2Vec2ForPreTraining])
@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_it_computes_what_transformers_does(kind: str, network: type, tmp_path: Path) -> None:
    folder, made = folder_of(kind, tmp_path, network)
    published = getattr(made, "wav2vec2", made)
    opened = open_wav2vec2(folder)
    window = WindowConfig(past_features=20, lookahead_features=4, normalize=False)
    audio = dataclasses.replace(
        preset("tiny").audio, backbone=opened.backbone, band=None, window=window
    )
    backbone = SpeechBackbone(audio).eval()
    source = opened.source
    weights = {name.removeprefix(WAV2VEC2): source.read(name) for name in source.shapes}
    backbone.wav2vec2.load_state_dict(weights)
    pcm = speech(16000, batch=2)
    expected = published(pcm, output_hidden_states=True)
    states = backbone(pcm)
    assert len(states) == 4
    for ours, theirs in zip(states[:-1], expected.hidden_states[:-1], strict=True):
        assert (ours - theirs).abs().max() <= 1e-4
    assert (states[-1] - expected.last_hidden_state).abs().max() <= 1e-4
    assert expected.last_hidden_state.std() > 0.1


@pytest.mark.parametrize("zipped", [True, False])
@torch.no_grad()
def test_the_older_format_is_read(tmp_path: Path, zipped: bool) -> None:
    """`pytorch_model.bin`, with the names that weight norm had then."""
    folder, _ = folder_of("base", tmp_path, Wav2Vec2ForPreTraining)
    shutil.copytree(folder, tmp_path / "newer")
    exact = open_wav2vec2(tmp_path / "newer").source
    tensors = load_file(folder / "model.safetensors")
    older = {
        name.replace("parametrizations.weight.original0", "weight_g").replace(
            "parametrizations.weight.original1", "weight_v"
        ): tensor
        for name, tensor in tensors.items()
    }
    assert older.keys() != tensors.keys()
    (folder / "model.safetensors").unlink()
    torch.save(older, folder / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)
    source = open_wav2vec2(folder).source
    assert source.shapes == exact.shapes
    for name in source.shapes:
        assert torch.equal(source.read(name), exact.read(name)), name


def test_a_pickle_runs_nothing(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple:
            return Path.touch, (tmp_path / "sprung",)

    folder, _ = folder_of("base", tmp_path)
    (folder / "model.safetensors").unlink()
    torch.save({"wav2vec2.x": Trap()}, folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin cannot be read"):
        open_wav2vec2(folder)
    assert not (tmp_path / "sprung").exists()
    torch.save([1, 2], folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="does not hold tensors by name"):
        open_wav2vec2(folder)


@pytest.mark.parametrize("kind", KINDS)
def test_every_key_of_full_size_is_used(kind: str, tmp_path: Path) -> None:
    backbone = wav2vec2_base() if kind == "base" else wav2vec2_large()
    config = wav2vec2_config(backbone)
    with torch.device("meta"):
        published = Wav2Vec2ForPreTraining(config)
    shapes = {name: tuple(t.shape) for name, t in published.state_dict().items()}
    config.save_pretrained(tmp_path)
    write_hollow(tmp_path / "model.safetensors", shapes, dtype="F32")
    opened = open_wav2vec2(tmp_path)
    assert opened.backbone == backbone
    size = sum(torch.Size(shape).numel() for shape in opened.source.shapes.values())
    assert size == sum(p.numel() for p in published.wav2vec2.parameters())
    assert size > (90e6 if kind == "base" else 300e6)


def test_the_feature_extractor_says_whether_to_normalise(tmp_path: Path) -> None:
    folder, _ = folder_of("base", tmp_path)
    assert open_wav2vec2(folder).normalize
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps({"do_normalize": False, "sampling_rate": 16000}))
    assert not open_wav2vec2(folder).normalize
    path.write_text(json.dumps({"sampling_rate": 8000}))
    with pytest.raises(CheckpointError, match="sampling_rate is 8000, want 16000"):
        open_wav2vec2(folder)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"model_type": "hubert"}, "model_type is 'hubert', want 'wav2vec2'"),
        ({"hidden_act": "relu"}, "hidden_act is 'relu'"),
        ({"add_adapter": True}, "add_adapter is True, want False"),
        ({"hidden_size": 33}, "hidden_size 33 is not a multiple"),
        ({"num_hidden_layers": 2}, r"unexpected: encoder\.layers\.2\."),
        ({"num_hidden_layers": 4}, r"missing: encoder\.layers\.3\."),
        ({"intermediate_size": 96}, r"misshapen: .*is \[32, 64\], want \[32, 96\]"),
    ],
)
def test_other_networks_are_refused(tmp_path: Path, settings: dict, told: str) -> None:
    folder, _ = folder_of("base", tmp_path)
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))
    with pytest.raises(CheckpointError, match=told):
        open_wav2vec2(folder)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no wav2vec2 folder .*facebook/wav2vec2-base"):
        open_wav2vec2(tmp_path / "nowhere")
    folder, _ = folder_of("base", tmp_path)
    tensors = load_file(folder / "model.safetensors")
    gone = "feature_projection.projection.weight"
    del tensors[gone]
    save_file(tensors | {"novel.weight": torch.zeros(1)}, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=f"1 missing: {gone}; 1 unexpected: novel.weight"):
        open_wav2vec2(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"neither model\.safetensors nor"):
        open_wav2vec2(folder)
    shutil.rmtree(folder)
    folder.mkdir()
    with pytest.raises(CheckpointError, match=r"config\.json is missing: .*facebook/wav2vec2"):
        open_wav2vec2(folder)
