"""The audio encoder's and the denoiser's engines: ONNX Runtime against torch."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from mirrorme_model.avatar import AvatarModel
from mirrorme_model.config import ModelConfig
from mirrorme_model.graphs import AudioEncoderGraph, DenoiserGraph
from mirrorme_model.presets import preset

from tests.model.small_models import every_feature

# The export's tests compare `tiny`.
CONFIGS = {"every_feature": every_feature(), "demo": preset("demo")}
BATCHES = (1, 2, 3, 8)

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning",
    "ignore::FutureWarning",
    "ignore:# The axis name. batch will not be used:UserWarning",
)
"""torch's exporter uses what torch itself deprecates, and notes that all inputs share one batch."""


@pytest.fixture(params=["every_feature", pytest.param("demo", marks=pytest.mark.slow)])
def config(request: pytest.FixtureRequest) -> ModelConfig:
    return CONFIGS[request.param]


def check(graph: AudioEncoderGraph | DenoiserGraph, path: Path) -> None:
    example = graph.example_inputs(2)
    batch = torch.export.Dim("batch")
    program = torch.onnx.export(
        graph.eval(),
        example,
        dynamo=True,
        opset_version=20,
        input_names=list(graph.input_names),
        output_names=list(graph.output_names),
        dynamic_shapes=tuple({0: batch} for _ in example),
        verbose=False,
        optimize=False,
    )
    assert program is not None
    program.save(path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert [i.name for i in session.get_inputs()] == list(graph.input_names)
    for size in BATCHES:
        inputs = graph.example_inputs(size, seed=size)
        with torch.no_grad():
            expected = graph(*inputs)
        arrays = {n: v.numpy() for n, v in zip(graph.input_names, inputs, strict=True)}
        (result,) = session.run(list(graph.output_names), arrays)
        np.testing.assert_allclose(result, expected.numpy(), atol=1e-4, rtol=1e-4)
        # A row is the same alone: batching changes no pixels.
        (alone,) = session.run(None, {name: array[-1:] for name, array in arrays.items()})
        assert np.array_equal(alone[0], result[-1])


def test_audio_encoder_in_onnx_runtime(config: ModelConfig, tmp_path: Path) -> None:
    model = AvatarModel.random(config, seed=1)
    before = model.weights_sha256()
    check(AudioEncoderGraph(model.audio), tmp_path / "audio.onnx")
    assert model.weights_sha256() == before


def test_denoiser_in_onnx_runtime(config: ModelConfig, tmp_path: Path) -> None:
    model = AvatarModel.random(config, seed=1)
    before = model.weights_sha256()
    check(DenoiserGraph(model.denoiser), tmp_path / "denoiser.onnx")
    assert model.weights_sha256() == before


def test_fewer_steps_are_another_graph() -> None:
    denoiser = AvatarModel.random(preset("tiny"), seed=1).denoiser
    full, short = DenoiserGraph(denoiser), DenoiserGraph(denoiser, (1.0, 0.0))
    inputs = full.example_inputs(1)
    with torch.no_grad():
        assert (full(*inputs) - short(*inputs)).abs().max() > 1e-3


def test_the_model_works_on_after_a_graph_was_made_of_it() -> None:
    audio = AvatarModel.random(preset("tiny"), seed=0).audio
    pcm, phase = torch.randn(1, audio.window.window_samples), torch.zeros(1, dtype=torch.long)
    before = audio(pcm, phase)
    graph = AudioEncoderGraph(audio)
    assert torch.equal(audio(pcm, phase), before)
    torch.testing.assert_close(graph(pcm, phase), before, atol=1e-5, rtol=0)
