"""`tiny`, exported for real: files, manifest, parity, and the engines that open them."""

from __future__ import annotations

import asyncio
import hashlib
import json
import stat
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from mirrorme_engines.engine import Engine
from mirrorme_engines.engine_options import EngineOptions
from mirrorme_engines.manifest import Manifest
from mirrorme_engines.open_engines import open_engines
from mirrorme_export.engine_graphs import EngineGraph
from mirrorme_export.exporter import Export
from mirrorme_export.parity import BATCH_SIZES
from mirrorme_model.avatar import AvatarModel

NAMES = ["identity_encoder", "audio_encoder", "denoiser", "denoiser_1step", "decoder"]


def test_the_folder_holds_what_the_manifest_says_and_no_more(tiny_export: Export) -> None:
    assert Manifest.load(tiny_export.folder) == tiny_export.manifest
    files = {
        str(path.relative_to(tiny_export.folder))
        for path in tiny_export.folder.rglob("*")
        if path.is_file()
    }
    assert files == {
        "manifest.json",
        "parity.json",
        *(f"{name}/1/model.onnx" for name in NAMES),
    }
    assert [path.name for path in tiny_export.folder.parent.iterdir()] == ["tiny"]
    assert stat.S_IMODE(tiny_export.folder.stat().st_mode) == 0o755


def test_the_manifest_is_the_models(tiny_export: Export, tiny_model: AvatarModel) -> None:
    manifest, config = tiny_export.manifest, tiny_model.config
    assert (manifest.preset, manifest.trained) == ("tiny", False)
    assert manifest.weights_sha256 == tiny_model.weights_sha256()
    assert [spec.name for spec in manifest.engines] == NAMES
    assert [spec.num_steps for spec in manifest.engines] == [None, None, 2, 1, None]
    assert manifest.engine("denoiser").name == "denoiser"
    assert manifest.versions.keys() == {"mirrorme", "torch", "onnx", "onnxscript", "onnxruntime"}
    assert manifest.chunk.decoder_context_latents == config.vae.context_latents
    assert [control.name for control in manifest.controls] == [
        control.name for control in config.controls.controls
    ]
    assert manifest.hands and manifest.guidance is None
    assert manifest.algorithmic_latency_ms > 1000 / 3


def test_tensors_fit_each_other(tiny_export: Export) -> None:
    """What one engine gives is what the next one takes."""
    manifest = tiny_export.manifest
    by_role = {
        role: {t.name: t for t in (*spec.inputs, *spec.outputs)}
        for role in ("identity_encoder", "audio_encoder", "denoiser", "decoder")
        for spec in [manifest.engine(role)]
    }
    denoiser = by_role["denoiser"]
    for role, name in (("identity_encoder", "identity"), ("audio_encoder", "audio_tokens")):
        assert by_role[role][name] == denoiser[name]
    chunk = manifest.chunk
    latent = denoiser["identity"].dims
    assert denoiser["noise"].dims == denoiser["latents"].dims == (chunk.num_latents, *latent)
    assert denoiser["motion"].dims == (chunk.motion_latents, *latent)
    decoded = chunk.decoder_context_latents + chunk.num_latents + chunk.decoder_lookahead_latents
    assert by_role["decoder"]["latents"].dims == (decoded, *latent)
    assert by_role["decoder"]["frames"].dims == (manifest.chunk_frames, 64, 64, 3)
    assert by_role["audio_encoder"]["pcm"].dims == (manifest.audio.window_samples,)
    assert by_role["audio_encoder"]["phase"].dims == denoiser["expression"].dims == ()


def test_every_engine_was_compared_at_every_batch_size(tiny_export: Export) -> None:
    report = json.loads((tiny_export.folder / "parity.json").read_text())
    assert report["passed"] is True
    assert [(row["engine"], row["batch_size"]) for row in report["rows"]] == [
        (name, size) for name in NAMES for size in BATCH_SIZES
    ]
    assert all(row["passed"] and row["max_abs_value"] > 0.1 for row in report["rows"])
    assert all(row["joined_error"] == 0 for row in report["rows"])


def test_each_step_was_announced(tiny_export: Export, tiny_steps: list[str]) -> None:
    pairs = [f"{verb} {name}" for name in NAMES for verb in ("export", "compare")]
    assert tiny_steps == [*pairs, "write manifest"]


def test_the_files_tell_nothing_of_the_machine(tiny_export: Export) -> None:
    for spec in tiny_export.manifest.engines:
        data = (tiny_export.folder / spec.file).read_bytes()
        for word in (b"/site-packages", b"mirrorme_model", b"Traceback", str(Path.cwd()).encode()):
            assert word not in data, (spec.name, word)
        assert hashlib.sha256(data).hexdigest() == spec.sha256
        model = onnx.load_from_string(data)
        onnx.checker.check_model(model, full_check=True)
        assert [opset.version for opset in model.opset_import if not opset.domain] == [20]


def test_integer_pictures_are_cast_only_at_the_border(tiny_export: Export) -> None:
    """TensorRT takes uint8 only as the first node's input and the last one's output."""
    for name, tensor in (("identity_encoder", "image"), ("decoder", "frames")):
        graph = onnx.load(tiny_export.folder / f"{name}/1/model.onnx").graph
        touching = [n.op_type for n in graph.node if tensor in (*n.input, *n.output)]
        assert touching == ["Cast"], name


def engine_of(engines: tuple[Engine, ...], name: str) -> Engine:
    return next(engine for engine in engines if engine.spec.name == name)


def feed(graph: EngineGraph, batch: int, seed: int) -> dict[str, np.ndarray]:
    tensors = graph.example_inputs(batch, seed)
    return {name: t.numpy() for name, t in zip(graph.input_names, tensors, strict=True)}


@pytest.mark.parametrize("num_threads", [1, 2])
async def test_opened_engines_compute_what_torch_does(
    tiny_export: Export, tiny_graphs: list[EngineGraph], num_threads: int
) -> None:
    engines = await open_engines(tiny_export.folder, EngineOptions(num_threads=num_threads))
    for graph in tiny_graphs:
        inputs = feed(graph, 3, seed=7)
        outputs = await engine_of(engines.engines, graph.name).infer(inputs)
        (want,) = graph.run(tuple(torch.from_numpy(array) for array in inputs.values()))
        (got,) = outputs.values()
        error = np.abs(want.numpy().astype(np.float64) - got)
        assert error.max() <= (1 if got.dtype == np.uint8 else 1e-3), graph.name
    await engines.close()


@pytest.mark.parametrize("num_threads", [1, 2])
async def test_eight_joined_calls_are_bit_identical_to_calls_alone(
    tiny_export: Export, tiny_graphs: list[EngineGraph], num_threads: int
) -> None:
    engines = await open_engines(tiny_export.folder, EngineOptions(num_threads=num_threads))
    for graph in tiny_graphs:
        engine = engine_of(engines.engines, graph.name)
        calls = [feed(graph, 1, seed) for seed in range(8)]
        alone = [await engine.infer(call) for call in calls]
        joined = await asyncio.gather(*map(engine.infer, calls))
        for one, other in zip(alone, joined, strict=True):
            for name in one:
                assert one[name].tobytes() == other[name].tobytes(), graph.name
    await engines.close()


async def test_every_input_has_an_effect(
    tiny_export: Export, tiny_graphs: list[EngineGraph]
) -> None:
    """Random weights fill the layers that training starts at zero."""
    engines = await open_engines(tiny_export.folder)
    for graph in tiny_graphs:
        engine = engine_of(engines.engines, graph.name)
        base, other = feed(graph, 2, 0), feed(graph, 2, 1)
        (before,) = (await engine.infer(base)).values()
        for name in graph.input_names:
            changed = (base[name] + 1) % 3 if name == "phase" else other[name]
            (after,) = (await engine.infer({**base, name: changed})).values()
            assert not np.array_equal(before, after), (graph.name, name)
    await engines.close()
