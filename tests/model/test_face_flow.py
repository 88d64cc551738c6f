"""The flow that bends frames: what it moves and where to, as the face code tells it."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from mirrorme_model.avatar import AvatarModel
from mirrorme_model.errors import ConfigError
from mirrorme_model.face_flow import FLOW_UNIT_PX, FaceFlow, bend
from mirrorme_model.presets import preset
from mirrorme_model.vae_config import FRAMES_PER_LATENT, HAND_CHANNELS
from mirrorme_model.vae_graphs import DecoderGraph
from mirrorme_model.vae_layers import fold_frames
from mirrorme_model.video_decoder import unpatchify
from torch import Tensor

SIZE_PX, CELL_PX = 48, 4


def flow_of(columns: float, rows: float) -> Tensor:
    flow = torch.tensor([columns, rows]) / FLOW_UNIT_PX
    return flow[None, :, None, None].expand(1, 2, SIZE_PX // CELL_PX, SIZE_PX // CELL_PX)


def test_no_flow_leaves_frames_as_they_are() -> None:
    frames = torch.rand(1, 3, SIZE_PX, SIZE_PX)
    torch.testing.assert_close(bend(frames, flow_of(0, 0)), frames, atol=1e-5, rtol=0)


def test_colours_come_from_where_the_flow_says() -> None:
    frames = torch.rand(1, 3, SIZE_PX, SIZE_PX)
    made = bend(frames, flow_of(3, -5))
    torch.testing.assert_close(made[..., 5:, :-3], frames[..., :-5, 3:], atol=1e-5, rtol=0)
    # Beyond the border stands the border.
    corner = frames[..., :1, -1:].expand(-1, -1, 5, 3)
    torch.testing.assert_close(made[..., :5, -3:], corner, atol=1e-5, rtol=0)


def test_flow_learns_what_a_control_moves_and_how_far() -> None:
    """Bars of any colour, anywhere: a third of the error is left after a few steps, on new ones."""
    draw = torch.Generator().manual_seed(0)

    def bars(count: int) -> tuple[Tensor, Tensor, Tensor]:
        rows = torch.arange(SIZE_PX)[:, None]
        place = torch.randint(14, SIZE_PX - 14, (count, 1, 1, 1), generator=draw)
        code = torch.rand((count, 1, 2), generator=draw)
        colour = torch.rand((count, 3, 1, 1), generator=draw)

        def shown(by: Tensor | float) -> Tensor:
            return (1 - (rows - place - by).abs() / 4).clamp(min=0) * colour.expand(
                -1, -1, -1, SIZE_PX
            )

        return shown(0.0), shown(-4 * code[:, :, :1, None]), code

    def error(flow: FaceFlow, count: int) -> Tensor:
        before, after, code = bars(count)
        seen = torch.nn.functional.avg_pool2d(before, CELL_PX)
        # One frame of the latent is enough.
        return (bend(before, flow(seen, code, 1)) - after).square().mean()

    torch.manual_seed(0)
    flow = FaceFlow(2, 3, 16)
    with torch.no_grad():
        start = error(flow, 64)
    optimizer = torch.optim.Adam(flow.parameters(), lr=1e-2)
    for _ in range(80):
        optimizer.zero_grad()
        error(flow, 16).backward()
        optimizer.step()
    with torch.no_grad():
        assert error(flow, 64) < start / 3


@torch.no_grad()
def test_the_code_bends_the_frames_of_its_own_latent(tiny: AvatarModel) -> None:
    vae = tiny.vae
    assert vae.decoder is not None and vae.decoder.flow is not None
    assert vae.decoder.flow.output.conv.weight.any()
    window = torch.randn(1, tiny.config.vae.latent_channels, vae.config.context_latents + 2, 2, 2)
    before = vae.draw_chunk(window)
    window[:, tiny.config.vae.picture_channels, -1] += 1.0
    after = vae.draw_chunk(window)
    assert before.flow is not None and after.flow is not None
    moved = (after.flow - before.flow).abs().amax(dim=(0, 1, 3, 4))
    assert not moved[:FRAMES_PER_LATENT].any() and moved[FRAMES_PER_LATENT:].all()


@torch.no_grad()
def test_the_engine_bends_as_the_model_does(tiny: AvatarModel) -> None:
    vae = tiny.vae
    window = torch.randn(2, vae.config.context_latents + 1, tiny.config.vae.latent_channels, 2, 2)
    window[:, :, -HAND_CHANNELS:] = 0.0
    made = fold_frames(DecoderGraph(vae)(window).permute(0, 4, 1, 2, 3)).float()
    patches, flow, *_ = vae.draw_chunk(window.transpose(1, 2))
    assert flow is not None
    # The engine cuts off what bytes do not hold before it bends.
    frames = fold_frames(unpatchify(patches.clamp(-1, 1), vae.config.patch_px))
    expected = (bend(frames, fold_frames(flow)) + 1) * 127.5
    assert (made - expected).abs().max() <= 0.51


def test_a_flow_wants_a_code_to_tell_it() -> None:
    vae = preset("tiny").vae
    with pytest.raises(ConfigError, match="flow wants face_channels"):
        dataclasses.replace(
            vae, latent_channels=vae.latent_channels - vae.face_channels, face_channels=0
        )
    assert vae.decoder is not None
    with pytest.raises(ConfigError, match="flow wants a causal decoder"):
        dataclasses.replace(vae.decoder, temporal_kernels=(1, 1, 1, 2))
