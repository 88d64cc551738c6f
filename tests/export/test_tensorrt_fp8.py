"""The FP8 denoiser: what is quantised, how far off it is, and that its plan can be built."""

from __future__ import annotations

import dataclasses
import shutil
import wave
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from mirrorme_engines.manifest import Manifest, engine_sha256
from mirrorme_export import tensorrt_fp8
from mirrorme_export.errors import InvalidRequest
from mirrorme_export.session_player import Sample, SessionPlayer, load_samples, open_session
from mirrorme_export.tensorrt_errors import PrecisionError
from mirrorme_export.tensorrt_export import build_plans, check_plans
from mirrorme_export.tensorrt_fp8 import Fp8Choice, choose_fp8, measure_scales, psnr_db, save_fp8
from mirrorme_export.tensorrt_fp8_graph import find_products, spare_blocks, weight_scales
from mirrorme_export.tensorrt_target import TensorRTOptions
from onnx import helper, numpy_helper
from PIL import Image

from tests.export.test_tensorrt_export import quiet
from tests.triton.small_repository import write_small_repository

NUM_BLOCKS = 4
WIDTH = 64
"""Of the small denoiser's hidden layer."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small preset, its denoiser with transformer blocks of one product each."""
    made = tmp_path_factory.mktemp("blocks")
    manifest = write_small_repository(made)
    path = made / manifest.engine("denoiser").file
    model = onnx.load(path)
    random = np.random.default_rng(5)
    for node in model.graph.node:
        node.input[:] = [f"h{NUM_BLOCKS}" if name == "sum" else name for name in node.input]
    blocks = [helper.make_node("Identity", ["sum"], ["h0"])]
    for i in range(NUM_BLOCKS):
        name = f"base.transformer_blocks.{i}.attn1.to_q.weight"
        weight = random.standard_normal((WIDTH, WIDTH)).astype(np.float32) / 40
        model.graph.initializer.append(numpy_helper.from_array(weight, name))
        blocks += [
            helper.make_node("Transpose", [name], [f"w{i}"], name=f"w{i}", perm=[1, 0]),
            helper.make_node("MatMul", [f"h{i}", f"w{i}"], [f"m{i}"], name=f"m{i}"),
            helper.make_node("Tanh", [f"m{i}"], [f"t{i}"], name=f"t{i}"),
            helper.make_node("Add", [f"h{i}", f"t{i}"], [f"h{i + 1}"], name=f"h{i + 1}"),
        ]
    at = next(i for i, node in enumerate(model.graph.node) if node.output[0] == "sum")
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*nodes[: at + 1], *blocks, *nodes[at + 1 :]])
    onnx.save(onnx.shape_inference.infer_shapes(model), path)
    engines = tuple(
        dataclasses.replace(spec, sha256=engine_sha256(path)) if spec.role == "denoiser" else spec
        for spec in manifest.engines
    )
    dataclasses.replace(manifest, engines=engines).save(made)
    return made


@pytest.fixture(scope="module")
def manifest(folder: Path) -> Manifest:
    return Manifest.load(folder)


@pytest.fixture(scope="module")
def denoiser(folder: Path, manifest: Manifest) -> Path:
    return folder / manifest.engine("denoiser").file


@pytest.fixture(scope="module")
def samples(manifest: Manifest) -> list[Sample]:
    random = np.random.default_rng(0)
    size = (manifest.video.height_px, manifest.video.width_px, 3)
    pcm = random.normal(0, 0.1, 32000).astype(np.float32)
    return [Sample(random.integers(0, 256, size, np.uint8), pcm) for _ in range(2)]


def choose(folder: Path, samples: list[Sample]) -> Fp8Choice:
    manifest = Manifest.load(folder)
    return choose_fp8(folder, manifest, manifest.engine("denoiser"), "wide", samples, num_chunks=2)


@pytest.fixture(scope="module")
def choice(folder: Path, samples: list[Sample]) -> Fp8Choice:
    return choose(folder, samples)


def test_products_are_those_of_the_blocks(denoiser: Path) -> None:
    products = find_products(ir.load(denoiser))
    assert [(p.node, p.activation, p.block) for p in products] == [
        (f"m{i}", f"h{i}", i) for i in range(NUM_BLOCKS)
    ]
    assert spare_blocks(products, 0) == products
    assert [p.block for p in spare_blocks(products, 1)] == [1, 2]
    assert spare_blocks(products, 2) == []


def test_scales_reach_the_largest_activation(
    folder: Path, manifest: Manifest, denoiser: Path, samples: list[Sample]
) -> None:
    exact = open_session(denoiser)
    played = SessionPlayer(folder, manifest).play(samples[0], exact, first_chunk=0, num_chunks=4)
    one, two = (measure_scales(denoiser, list(played.calls[:n])) for n in (1, 4))
    assert one.keys() == two.keys() and all(two[name] >= one[name] > 0 for name in one)
    assert any(two[name] > one[name] for name in one)
    assert all(float(np.float16(scale)) == scale for scale in two.values())


def test_the_report_is_of_real_sessions(manifest: Manifest, choice: Fp8Choice) -> None:
    half, chosen = choice.rows
    assert (half.name, half.num_products, choice.num_spared) == ("fp16", 0, 0)
    assert chosen.num_products == NUM_BLOCKS
    assert half.latents_error < chosen.latents_error < tensorrt_fp8.MAX_RELATIVE_ERROR
    assert 20 < chosen.psnr_db <= half.psnr_db <= 100
    assert choice.num_calibration_calls == 2
    assert choice.num_frames == 2 * manifest.chunk_frames


def test_a_choice_survives_a_round_trip(choice: Fp8Choice, tmp_path: Path) -> None:
    choice.save(tmp_path / "choice.json")
    loaded = Fp8Choice.load(tmp_path / "choice.json")
    assert loaded == choice and loaded.digest == choice.digest
    other = dataclasses.replace(choice, scales=dict.fromkeys(choice.scales, 0.5))
    assert other.digest != choice.digest
    assert Fp8Choice.load(tmp_path / "none.json") is None


def test_too_coarse_in_every_way_is_refused(
    folder: Path, samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensorrt_fp8, "MAX_RELATIVE_ERROR", 1e-9)
    with pytest.raises(PrecisionError, match=r"further from fp32 than 1e-09 .*use --precision"):
        choose(folder, samples)


def test_blocks_are_spared_until_the_rest_is_within_the_limit(
    folder: Path, samples: list[Sample], choice: Fp8Choice, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = choice.row.latents_error * 0.999
    monkeypatch.setattr(tensorrt_fp8, "MAX_RELATIVE_ERROR", limit)
    spared = choose(folder, samples)
    assert (spared.num_spared, spared.row.num_products) == (1, NUM_BLOCKS - 2)
    assert spared.row.latents_error < limit and len(spared.rows) == 3


def test_a_graph_without_blocks_is_refused(tmp_path: Path, samples: list[Sample]) -> None:
    write_small_repository(tmp_path)
    with pytest.raises(PrecisionError, match="no products in transformer blocks"):
        choose(tmp_path, samples)


def test_the_typed_graph_is_valid_and_means_what_the_emulated_one_does(
    folder: Path,
    manifest: Manifest,
    denoiser: Path,
    samples: list[Sample],
    choice: Fp8Choice,
    tmp_path: Path,
) -> None:
    typed, emulated = tmp_path / "typed.onnx", tmp_path / "emulated.onnx"
    assert save_fp8(denoiser, typed, choice) == NUM_BLOCKS
    save_fp8(denoiser, emulated, choice, emulate=True)
    onnx.checker.check_model(typed, full_check=True)
    for path in (typed, emulated):
        model = ir.load(path)
        kinds = [node.op_type for node in model.graph]
        assert kinds.count("QuantizeLinear") == NUM_BLOCKS and "Transpose" not in kinds
        eights = {ir.DataType.FLOAT8E4M3FN}
        stored = [w for w in model.graph.initializers.values() if w.dtype in eights]
        assert sum(tuple(w.shape or ()) == (WIDTH, WIDTH) for w in stored) == NUM_BLOCKS
    player, exact = SessionPlayer(folder, manifest), open_session(denoiser)
    (inputs,) = player.play(samples[0], exact, first_chunk=0, num_chunks=1).calls
    (want,), (half), (got) = (
        open_session(path).run(None, inputs) for path in (denoiser, typed, emulated)
    )
    # Where fp16 rounds another way, a value may fall on the other side of a step of FP8.
    assert np.abs(half[0] - got[0]).mean() < 2e-3 and np.abs(half[0] - got[0]).max() < 0.05
    assert 0 < np.abs(got[0] - want).max() < 0.2


def test_a_weight_is_off_by_a_sixteenth_at_most() -> None:
    """E4M3 has three bits behind the point: half a step is a sixteenth of the value."""
    import ml_dtypes

    weight = np.random.default_rng(0).standard_normal((32, 8)).astype(np.float32)
    weight *= np.logspace(-2, 2, 8, dtype=np.float32)
    scale = weight_scales(weight)
    back = (weight / scale).astype(ml_dtypes.float8_e4m3fn).astype(np.float32) * scale
    largest = np.abs(weight).max(axis=0)
    assert np.all(np.abs(back - weight) <= np.abs(weight) / 16 + largest / 448 / 512)
    assert np.allclose(np.abs(back).max(axis=0), largest, rtol=1e-6)


@pytest.mark.parametrize("gpu", ["sm89", "sm120"])
def test_tensorrt_builds_it_and_knows_it_again(folder: Path, tmp_path: Path, gpu: str) -> None:
    preset = shutil.copytree(folder, tmp_path / "preset")
    calibration = tmp_path / "calibration"
    calibration.mkdir()
    for name in ("a.png", "b.png"):
        Image.new("RGB", (90, 70), (255, 128, 0)).save(calibration / name)
    save_wave(calibration / "speech.wav", 16000)
    options = TensorRTOptions(
        gpu=gpu, precision="fp8", calibration=calibration, calibration_chunks=2
    )
    report = build_plans(preset, options, step=quiet)
    rows = {row.engine: row for row in report.rows}
    assert rows["denoiser"].precision_level == "wide+fp8"
    assert [name for name, row in rows.items() if row.fp8 is not None] == ["denoiser"]
    told, fp8 = report.fp8_table(), rows["denoiser"].fp8
    assert told is not None and fp8 is not None and told.row_count == len(fp8.rows) >= 2
    records = {r.source.engine: r.source for r in check_plans(preset, options)}
    assert {name: source.precision for name, source in records.items()} == dict.fromkeys(
        records, "fp16"
    ) | {"denoiser": "fp8"}
    assert all(row.from_cache for row in build_plans(preset, options, step=quiet).rows)
    # Other speech, other scales, another plan.
    save_wave(calibration / "more.wav", 16000)
    again = build_plans(preset, dataclasses.replace(options, calibration_chunks=3), step=quiet)
    assert [row.engine for row in again.rows if not row.from_cache] == ["denoiser"]


def test_psnr() -> None:
    black = np.zeros((1, 2, 2, 3), np.uint8)
    assert psnr_db(black, black) == 100
    assert psnr_db(black, black + 1) == pytest.approx(48.13, abs=0.01)


def test_what_fp8_cannot_be(tmp_path: Path) -> None:
    write_small_repository(tmp_path)
    old = TensorRTOptions(gpu="sm86", precision="fp8")
    with pytest.raises(InvalidRequest, match="fp8 on sm86: want sm89"):
        build_plans(tmp_path, old, step=quiet)
    with pytest.raises(InvalidRequest, match="say --calibration"):
        build_plans(tmp_path, dataclasses.replace(old, gpu="sm89"), step=quiet)


def test_samples_are_read_from_a_folder(tmp_path: Path, manifest: Manifest) -> None:
    with pytest.raises(InvalidRequest, match="0 pictures and 0 WAV files: want at least two"):
        load_samples(tmp_path, manifest)
    for name in ("a.png", "b.png"):
        Image.new("RGB", (90, 70), (255, 0, 0)).save(tmp_path / name)
    save_wave(tmp_path / "speech.wav", 16000)
    first, second = load_samples(tmp_path, manifest)
    video = manifest.video
    assert first.image.shape == second.image.shape == (video.height_px, video.width_px, 3)
    assert first.image[0, 0].tolist() == [255, 0, 0]
    assert first.pcm.dtype == np.float32 and np.allclose(first.pcm, 0.5)
    shutil.copy(tmp_path / "speech.wav", tmp_path / "c.png")
    with pytest.raises(InvalidRequest, match=r"c\.png cannot be read as a picture"):
        load_samples(tmp_path, manifest)
    save_wave(tmp_path / "speech.wav", 8000)
    (tmp_path / "c.png").unlink()
    with pytest.raises(InvalidRequest, match="at 8000 Hz: want mono, 16 bits, 16000 Hz"):
        load_samples(tmp_path, manifest)


def save_wave(path: Path, rate_hz: int) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(np.full(rate_hz, 16384, "<i2").tobytes())


def test_a_session_goes_on_from_its_own_latents(
    folder: Path, manifest: Manifest, denoiser: Path, samples: list[Sample]
) -> None:
    player = SessionPlayer(folder, manifest)
    played = player.play(samples[0], open_session(denoiser), first_chunk=0, num_chunks=3)
    assert played.frames.shape == (3 * 8, 64, 64, 3)
    first, second, _ = played.calls
    assert np.array_equal(first["motion"][0, 0], first["identity"][0])
    assert np.array_equal(second["motion"][0], played.latents[:1])
    assert not np.array_equal(first["audio_tokens"], second["audio_tokens"])
    assert not np.array_equal(first["noise"], second["noise"])
