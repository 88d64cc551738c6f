"""Lowered graphs: valid, close to fp32, and the emulated form equal to the typed one."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from mirrorme_engines.manifest import ROLES, ControlSpec, Manifest, RangeSpec
from mirrorme_export.precision_choice import (
    choose_precision,
    decoder_calls,
    make_inputs,
    save_lowered,
)
from mirrorme_export.precision_graph import LEVELS, Level, LowType, lower_precision
from mirrorme_export.session_player import Sample, SessionPlayer, open_session
from onnx import TensorProto, helper, numpy_helper

from tests.triton.small_repository import write_small_repository


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("small")
    write_small_repository(made)
    return made


def run(path: Path, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    return [np.asarray(array) for array in session.run(None, inputs)]


def save_attention(path: Path) -> None:
    """y = softmax((x W) (x W)ᵀ + mask) (x W) + x, with a mask far below fp16's range."""
    rng = np.random.default_rng(0)
    weights = {
        "w": rng.standard_normal((16, 16)).astype(np.float32) / 4,
        "mask": np.triu(np.full((4, 4), -1e30, np.float32), 1),
    }
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["q"], name="q"),
            helper.make_node("Transpose", ["q"], ["k"], name="k", perm=[0, 2, 1]),
            helper.make_node("MatMul", ["q", "k"], ["scores"], name="scores"),
            helper.make_node("Add", ["scores", "mask"], ["masked"], name="masked"),
            helper.make_node("Softmax", ["masked"], ["p"], name="p"),
            helper.make_node("MatMul", ["p", "q"], ["mixed"], name="mixed"),
            helper.make_node("Add", ["mixed", "x"], ["y"], name="y"),
        ],
        "attention",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4, 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4, 16])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(onnx.shape_inference.infer_shapes(model), path)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("role", ROLES)
def test_typed_and_emulated_agree(folder: Path, tmp_path: Path, role, level: Level) -> None:
    manifest = Manifest.load(folder)
    spec = manifest.engine(role)
    inputs = make_inputs(manifest, spec, 3, seed=1)
    (want,) = run(folder / spec.file, inputs)
    typed, emulated = tmp_path / "typed.onnx", tmp_path / "emulated.onnx"
    save_lowered(folder / spec.file, typed, "fp16", level)
    save_lowered(folder / spec.file, emulated, "fp16", level, emulate=True)
    onnx.checker.check_model(typed, full_check=True)
    onnx.checker.check_model(emulated, full_check=True)
    (from_typed,), (from_emulated,) = run(typed, inputs), run(emulated, inputs)
    tolerance = 2 if want.dtype == np.uint8 else 5e-3
    for got in (from_typed, from_emulated):
        assert got.dtype == want.dtype
        np.testing.assert_allclose(got.astype(float), want.astype(float), atol=tolerance)
    if level == "none":
        assert np.array_equal(from_typed, want) and np.array_equal(from_emulated, want)
    elif want.dtype != np.uint8:
        assert not np.array_equal(from_emulated, want)


@pytest.mark.parametrize(
    ("level", "lowered"),
    [
        ("wide", {"q", "k", "scores", "masked", "mixed"}),
        ("products", {"q", "scores", "mixed"}),
        ("weights", {"q"}),
        ("none", set()),
    ],
)
def test_softmax_and_the_residual_stay_fp32(tmp_path: Path, level: Level, lowered: set) -> None:
    save_attention(tmp_path / "a.onnx")
    model = ir.load(tmp_path / "a.onnx")
    assert lower_precision(model, "fp16", level, emulate=False) == len(lowered)
    types = {node.name: node.outputs[0].dtype for node in model.graph if node.op_type != "Cast"}
    assert {name for name, kind in types.items() if kind == ir.DataType.FLOAT16} == lowered
    assert model.graph.inputs[0].dtype == model.graph.outputs[0].dtype == ir.DataType.FLOAT


@pytest.mark.parametrize("low", ["fp16", "bf16"])
@pytest.mark.parametrize("level", ["wide", "products", "weights"])
def test_masks_stay_finite(tmp_path: Path, level: Level, low: LowType) -> None:
    save_attention(tmp_path / "a.onnx")
    save_lowered(tmp_path / "a.onnx", tmp_path / "b.onnx", low, level, emulate=True)
    x = np.random.default_rng(1).standard_normal((2, 4, 16)).astype(np.float32)
    (want,), (got,) = run(tmp_path / "a.onnx", {"x": x}), run(tmp_path / "b.onnx", {"x": x})
    np.testing.assert_allclose(got, want, atol=0.1 if low == "bf16" else 0.02)


def test_an_output_that_a_product_makes_keeps_its_name_and_type(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="y")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4])],
        [numpy_helper.from_array(np.eye(4, dtype=np.float32) * 3, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, tmp_path / "a.onnx")
    for emulate in (False, True):
        save_lowered(tmp_path / "a.onnx", tmp_path / "b.onnx", "fp16", "wide", emulate=emulate)
        session = ort.InferenceSession(tmp_path / "b.onnx")
        (output,) = session.get_outputs()
        assert (output.name, output.type) == ("y", "tensor(float)")
        x = np.arange(8, dtype=np.float32).reshape(2, 4)
        assert np.array_equal(session.run(None, {"x": x})[0], 3 * x)


def test_weights_are_halved(folder: Path, tmp_path: Path) -> None:
    spec = Manifest.load(folder).engine("decoder")
    save_lowered(folder / spec.file, tmp_path / "low.onnx", "fp16", "wide")
    ratio = (tmp_path / "low.onnx").stat().st_size / (folder / spec.file).stat().st_size
    assert ratio < 0.52


def test_the_fastest_level_within_the_limits_is_chosen(folder: Path, monkeypatch) -> None:
    manifest = Manifest.load(folder)
    spec = manifest.engine("denoiser")
    path = folder / spec.file
    choice = choose_precision(manifest, spec, path, "fp16")
    assert choice.level == "wide" and all(row.passed for row in choice.rows)
    assert choose_precision(manifest, spec, path, "fp32").level == "none"
    limits = "mirrorme_export.precision_choice.MAX_RELATIVE_ERROR"
    monkeypatch.setattr(limits, {"fp16": 1e-9, "bf16": 1e-9})
    choice = choose_precision(manifest, spec, path, "fp16")
    assert choice.level == "none"
    assert [row.level for row in choice.rows] == ["wide", "products", "weights"]
    assert not any(row.passed for row in choice.rows)


def test_decoders_are_measured_with_what_sessions_give_them(folder: Path) -> None:
    manifest = Manifest.load(folder)
    spec = manifest.engine("decoder")
    calls = decoder_calls(folder, manifest)
    assert len(calls) == 2 * 3  # chunks of a session, and of one with controls
    assert all(call["latents"].shape == (1, *spec.inputs[0].dims) for call in calls)
    again = decoder_calls(folder, manifest)
    assert all(
        np.array_equal(a["latents"], b["latents"]) for a, b in zip(calls, again, strict=True)
    )
    path = folder / spec.file
    assert choose_precision(manifest, spec, path, "fp16", calls).level == "wide"
    # Beyond what fp16 holds.
    huge = [{"latents": 1e6 * call["latents"]} for call in calls]
    assert choose_precision(manifest, spec, path, "fp16", huge).level == "none"


def test_a_session_may_be_told_every_control(folder: Path) -> None:
    ranges = [RangeSpec(0.0, 1.0, 0.0), RangeSpec(-30.0, 30.0, 0.0), RangeSpec(-1.0, 1.0, 0.0)]
    controls = [ControlSpec(f"c{i}", "ratio", r) for i, r in enumerate(ranges)]
    manifest = dataclasses.replace(Manifest.load(folder), controls=tuple(controls))
    player = SessionPlayer(folder, manifest)
    denoiser = open_session(folder / manifest.engine("denoiser").file)
    image = np.zeros((manifest.video.height_px, manifest.video.width_px, 3), np.uint8)
    sample = Sample(image, np.zeros(16000, np.float32))
    quiet, told = (
        player.play(sample, denoiser, first_chunk=0, num_chunks=3, controlled=controlled)
        for controlled in (False, True)
    )
    assert not any(call["controls"].any() for call in quiet.calls)
    values = np.stack([call["controls"][0] for call in told.calls])
    assert values.shape == (3, manifest.chunk_frames, 3) and values.dtype == np.float32
    assert (values == values[:, :1]).all() and len(np.unique(values[:, 0])) == 9
    for control, asked in zip(controls, np.moveaxis(values, -1, 0), strict=True):
        assert control.range.min <= asked.min() and asked.max() <= control.range.max
    assert not np.array_equal(quiet.frames, told.frames)
