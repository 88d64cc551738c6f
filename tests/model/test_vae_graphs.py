"""The VAE's engines: their tensors, and ONNX Runtime against torch."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from mirrorme_model.presets import preset as preset_of
from mirrorme_model.vae import VideoVae
from mirrorme_model.vae_graphs import DecoderGraph, IdentityEncoderGraph
from mirrorme_model.vae_presets import tiny_vae_config
from torch import nn

from tests.model.test_vae import make_vae, small_ltx

# The export's tests compare `tiny`, and look where bytes are cast.
CONFIGS = {
    "demo": (preset_of("demo").vae, 256),
    "ltx": (small_ltx(), 64),
}

EXPORTER_WARNINGS = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning"
)
"""torch's exporter uses what torch itself deprecates."""


@pytest.fixture(scope="module", params=list(CONFIGS))
def preset(request: pytest.FixtureRequest) -> tuple[VideoVae, int]:
    config, size_px = CONFIGS[request.param]
    return make_vae(config), size_px


def export(graph: nn.Module, example: torch.Tensor, path: Path) -> onnxruntime.InferenceSession:
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.onnx.export(
        graph.eval(),
        (example,),
        dynamo=True,
        opset_version=20,
        dynamic_shapes=({0: batch},),
        verbose=False,
        optimize=False,
    )
    assert program is not None
    program.save(path)
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def pictures(batch: int, size_px: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(batch)
    shape = (batch, size_px, size_px, 3)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


@EXPORTER_WARNINGS
def test_identity_encoder_in_onnx_runtime(preset: tuple[VideoVae, int], tmp_path: Path) -> None:
    vae, size_px = preset
    graph = IdentityEncoderGraph(vae)
    session = export(graph, pictures(2, size_px), tmp_path / "identity.onnx")
    for batch in (1, 2, 3, 8):
        image = pictures(batch, size_px)
        with torch.no_grad():
            identity = graph(image)
            clip = image.permute(0, 3, 1, 2)[:, :, None].float() / 127.5 - 1
            whole = vae.encode(clip).mean[:, :, 0]
        whole = torch.nn.functional.pad(whole, (0, 0, 0, 0, 0, vae.config.cue_channels))
        assert identity.shape == (batch, vae.config.latent_channels, size_px // 32, size_px // 32)
        torch.testing.assert_close(identity, whole, atol=1e-4, rtol=1e-4)
        (result,) = session.run(None, {session.get_inputs()[0].name: image.numpy()})
        np.testing.assert_allclose(result, identity.numpy(), atol=1e-4, rtol=1e-4)


@EXPORTER_WARNINGS
@pytest.mark.parametrize("chunk", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_decoder_in_onnx_runtime(preset: tuple[VideoVae, int], chunk: int, tmp_path: Path) -> None:
    vae, size_px = preset
    config, side = vae.config, size_px // 32
    window = config.context_latents + chunk + config.lookahead_latents
    graph = DecoderGraph(vae)
    example = torch.randn(2, window, config.latent_channels, side, side)
    session = export(graph, example, tmp_path / "decoder.onnx")
    for batch in (1, 2, 3, 8):
        latents = torch.randn(batch, window, config.latent_channels, side, side)
        with torch.no_grad():
            frames = graph(latents)
        assert frames.shape == (batch, 8 * chunk, size_px, size_px, 3)
        assert frames.dtype == torch.uint8
        (result,) = session.run(None, {session.get_inputs()[0].name: latents.numpy()})
        assert result.dtype == np.uint8
        assert np.abs(result.astype(int) - frames.numpy().astype(int)).max() <= 1
        # Engines cut off what bytes do not hold before hands are mixed with it.
        latents[:, :, config.latent_channels - config.hand_channels :] = 0
        with torch.no_grad():
            frames = graph(latents)
            plain = vae.decode_chunk(latents.transpose(1, 2)).permute(0, 2, 3, 4, 1)
        expected = (plain * 127.5 + 127.5).clamp(0, 255).round()
        assert (frames.float() - expected).abs().max() <= 1


def test_graphs_leave_the_vae_as_it_is() -> None:
    vae = make_vae(tiny_vae_config())
    before = {name: tensor.clone() for name, tensor in vae.state_dict().items()}
    DecoderGraph(vae)
    IdentityEncoderGraph(vae)
    for name, tensor in vae.state_dict().items():
        torch.testing.assert_close(tensor, before[name], atol=0, rtol=0)
