"""The manifest is strict, and every error names the file and the key at fault."""

from __future__ import annotations

import dataclasses
import json
import re
from fractions import Fraction
from math import ceil
from pathlib import Path

import pytest
from mirrorme_engines.errors import ManifestError
from mirrorme_engines.fake_manifest import fake_manifest
from mirrorme_engines.manifest import Manifest, engine_sha256


def document(tmp_path: Path) -> dict:
    return json.loads(fake_manifest(guidance=True).save(tmp_path).read_text())


def load(tmp_path: Path, document: object) -> Manifest:
    (tmp_path / "manifest.json").write_text(json.dumps(document))
    return Manifest.load(tmp_path)


@pytest.mark.parametrize(
    "manifest",
    [
        fake_manifest(),
        fake_manifest(num_latents=3, decoder_lookahead_latents=1, guidance=True),
        dataclasses.replace(fake_manifest(num_steps=(4, 2)), expression=None, controls=()),
    ],
)
def test_saved_and_loaded_is_equal(tmp_path: Path, manifest: Manifest) -> None:
    manifest.save(tmp_path)
    assert Manifest.load(tmp_path) == manifest
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]


def leaves(value: object, path: tuple = ()) -> list[tuple]:
    if isinstance(value, dict):
        return [leaf for key in value for leaf in leaves(value[key], (*path, key))]
    if isinstance(value, list):
        return [leaf for i, item in enumerate(value) for leaf in leaves(item, (*path, i))]
    return [path]


def set_at(document: dict, path: tuple, value: object) -> None:
    for key in path[:-1]:
        document = document[key]
    document[path[-1]] = value


def where(path: tuple) -> str:
    return "manifest" + "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path)


def test_a_value_of_another_type_is_refused_anywhere(tmp_path: Path) -> None:
    paths = leaves(document(tmp_path))
    assert len(paths) > 100
    for path in paths:
        changed = document(tmp_path)
        set_at(changed, path, ["not", "this"])
        with pytest.raises(ManifestError, match=re.escape(f"{where(path)} is ['not', 'this']")):
            load(tmp_path, changed)


def test_a_missing_or_unknown_key_is_refused_anywhere(tmp_path: Path) -> None:
    for path in [p for p in leaves(document(tmp_path)) if isinstance(p[-1], str)]:
        if path[0] == "versions" or path[-1] in ("num_steps", "cpu"):
            continue
        parent = where(path[:-1])
        changed = document(tmp_path)
        owner = changed
        for key in path[:-1]:
            owner = owner[key]
        value = owner.pop(path[-1])
        with pytest.raises(ManifestError, match=re.escape(f"{parent} lacks keys: {path[-1]}")):
            load(tmp_path, changed)
        owner[path[-1]] = value
        owner["typo"] = 1
        with pytest.raises(ManifestError, match=re.escape(f"{parent} has unknown keys: typo")):
            load(tmp_path, changed)


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("format_version",), 2, "format 2 is not served here: want 1"),
        (("format_version",), True, "manifest.format_version is True: want int"),
        (("trained",), 1, "manifest.trained is 1: want bool"),
        (("video",), None, "manifest.video is None: want an object"),
        (("video", "height_px"), 64.0, "manifest.video.height_px is 64.0: want int"),
        (
            ("video", "frame_rate_denominator"),
            0,
            "video: frame_rate_denominator is 0: want at least 1",
        ),
        (("chunk", "num_latents"), 0, "manifest.chunk: num_latents is 0: want at least 1"),
        (("chunk", "motion_latents"), -1, "manifest.chunk: motion_latents is -1: want at least 0"),
        (("audio", "hop_samples"), 0, "manifest.audio: hop_samples is 0: want at least 1"),
        (("audio", "past_samples"), -1, "manifest.audio: past_samples is -1: want at least 0"),
        (("audio", "window_samples"), 5000, "audio.window_samples is 5000: want at least 8747, or"),
        (("engines",), {}, "manifest.engines is {}"),
        (("engines", 0, "role"), "encoder", "manifest.engines[0].role is 'encoder': want one of"),
        (("engines", 0, "inputs", 0, "dtype"), "float16", "inputs[0].dtype is 'float16'"),
        (("engines", 0, "inputs", 0, "dims"), [64, 0], "inputs[0]: dims is [64, 0]"),
        (("engines", 0, "file"), "../x.onnx", "manifest.engines[0]: file is '../x.onnx'"),
        (("engines", 0, "file"), "/x.onnx", "manifest.engines[0]: file is '/x.onnx'"),
        (("engines", 0, "file"), "", "manifest.engines[0]: file is ''"),
        (("engines", 0, "sha256"), "AB" * 32, "manifest.engines[0]: sha256 is 'ABAB"),
        (
            ("engines", 0, "cpu"),
            {"file": "elsewhere/model.onnx", "sha256": "0" * 64},
            "manifest.engines[0]: cpu.file is 'elsewhere/model.onnx': want it beside",
        ),
        (("engines", 0, "max_batch_size"), 0, "manifest.engines[0]: max_batch_size is 0"),
        (("engines", 0, "num_steps"), 4, "manifest.engines[0]: num_steps is 4"),
        (("engines", 2, "num_steps"), None, "manifest.engines[2]: num_steps is None"),
        (("engines", 2, "inputs"), [], "manifest.engines[2]: inputs is []"),
        (("engines", 1, "name"), "decoder", "names are not unique: identity_encoder, decoder"),
        (("engines", 1, "role"), "decoder", "manifest lacks engines: audio_encoder"),
        (("expression", "max"), -1, "manifest.expression: min, default, max are"),
        (("guidance", "default"), float("nan"), "manifest.guidance: min, default, max are"),
        (("guidance", "max"), float("inf"), "manifest.guidance: min, default, max are"),
    ],
)
def test_bad_values(tmp_path: Path, path: tuple, value: object, said: str) -> None:
    changed = document(tmp_path)
    set_at(changed, path, value)
    with pytest.raises(ManifestError) as caught:
        load(tmp_path, changed)
    assert said in str(caught.value)
    assert str(tmp_path / "manifest.json") in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", '{"a": }', "\x00"])
def test_malformed_json(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(ManifestError, match=r"manifest\.json cannot be read"):
        Manifest.load(tmp_path)


def test_no_file_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="run `make export` first"):
        Manifest.load(tmp_path / "none")


def test_not_text(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(ManifestError, match="cannot be read"):
        Manifest.load(tmp_path)


@pytest.mark.parametrize(("num_latents", "samples"), [(1, Fraction(16000, 3)), (3, 16000)])
def test_time_is_exact(num_latents: int, samples: Fraction) -> None:
    manifest = fake_manifest(num_latents=num_latents)
    assert manifest.samples_per_frame == Fraction(2000, 3)
    assert manifest.chunk_frames == 8 * num_latents
    assert manifest.chunk_samples == samples
    assert 450 * manifest.chunk_samples == 450 * num_latents * 16000 / Fraction(3)


@pytest.mark.parametrize("num_latents", [1, 3])
def test_the_window_holds_every_chunk(num_latents: int) -> None:
    manifest = fake_manifest(num_latents=num_latents)
    audio = manifest.audio
    for chunk in range(2 * audio.num_phases):
        start = chunk * manifest.chunk_samples
        window_start = start // audio.hop_samples * audio.hop_samples - audio.past_samples
        end = window_start + audio.window_samples
        assert end >= start + manifest.chunk_samples
        offset = (chunk % audio.num_phases * manifest.chunk_samples) % audio.hop_samples
        assert window_start + audio.past_samples + offset == start


def test_a_window_that_ends_before_its_chunk_is_refused() -> None:
    whole = fake_manifest()
    # The chunk that starts latest in its window is that of the last phase.
    start = 2 * whole.chunk_samples % whole.audio.hop_samples
    start = max(start, whole.chunk_samples % whole.audio.hop_samples)
    needed = whole.audio.past_samples + ceil(start + whole.chunk_samples)

    def with_window(num_samples: int) -> Manifest:
        audio = dataclasses.replace(whole.audio, window_samples=num_samples)
        return dataclasses.replace(whole, audio=audio)

    assert with_window(needed).audio.window_samples == needed
    with pytest.raises(ManifestError, match=f"window_samples is {needed - 1}: want at least"):
        with_window(needed - 1)


def test_lookahead_adds_whole_chunks_to_the_latency() -> None:
    base = fake_manifest().algorithmic_latency_ms
    ahead = fake_manifest(decoder_lookahead_latents=1).algorithmic_latency_ms
    assert ahead - base == pytest.approx(1000 / 3)


def test_the_hash_covers_external_data(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"graph")
    alone = engine_sha256(path)
    (tmp_path / "model.onnx.data").write_bytes(b"weights")
    with_data = engine_sha256(path)
    (tmp_path / "model.onnx.data").write_bytes(b"Weights")
    assert len({alone, with_data, engine_sha256(path)}) == 3
