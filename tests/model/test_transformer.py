"""The base transformer is LTX-Video's: names, size, numbers."""

import re

import pytest
import torch
from diffusers import LTXVideoTransformer3DModel
from mirrorme_model.config import DitConfig, TextConfig
from mirrorme_model.presets import preset
from mirrorme_model.rope import Rope, grid_coordinates, rope, rotate
from mirrorme_model.transformer import Transformer

CHANNELS, CAPTION_CHANNELS = 16, 24


def config(num_heads: int, head_dim: int) -> DitConfig:
    return DitConfig(
        num_layers=3,
        num_heads=num_heads,
        head_dim=head_dim,
        text=TextConfig(caption_channels=CAPTION_CHANNELS, num_prompt_tokens=4),
        audio_layers=(),
    )


def test_ltx_2b_has_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        base = Transformer(preset("ltx-2b").dit, 128)
    assert sum(parameter.numel() for parameter in base.parameters()) == 1_923_385_472


def diffusers_name(name: str) -> str:
    for ours, theirs in (
        ("patchify_proj", "proj_in"),
        ("adaln_single", "time_embed"),
        ("q_norm", "norm_q"),
        ("k_norm", "norm_k"),
    ):
        name = name.replace(ours, theirs)
    return name


def test_parameters_are_named_as_published() -> None:
    """As in LTX-Video's single-file checkpoints, of which diffusers publishes the renames."""
    names = {
        re.sub(r"\.\d+\.", ".N.", name, count=1)
        for name in Transformer(config(2, 8), 4).state_dict()
    }
    block = "transformer_blocks.N."
    assert {name for name in names if not name.startswith(block)} == {
        "scale_shift_table",
        *(
            f"{layer}.{kind}"
            for layer in (
                "patchify_proj",
                "proj_out",
                "adaln_single.linear",
                "adaln_single.emb.timestep_embedder.linear_1",
                "adaln_single.emb.timestep_embedder.linear_2",
                "caption_projection.linear_1",
                "caption_projection.linear_2",
            )
            for kind in ("weight", "bias")
        ),
    }
    attention = [
        f"{m}.{k}" for m in ("to_q", "to_k", "to_v", "to_out.0") for k in ("weight", "bias")
    ]
    attention += ["q_norm.weight", "k_norm.weight"]
    assert {name.removeprefix(block) for name in names if name.startswith(block)} == {
        "scale_shift_table",
        *(f"ff.net.{i}.{k}" for i in ("0.proj", "2") for k in ("weight", "bias")),
        *(f"attn{i}.{name}" for i in (1, 2) for name in attention),
    }


def pair(num_heads: int, head_dim: int) -> tuple[Transformer, LTXVideoTransformer3DModel]:
    torch.manual_seed(0)
    ours = Transformer(config(num_heads, head_dim), CHANNELS).eval()
    for parameter in ours.parameters():
        if parameter.dim() == 1:
            torch.nn.init.normal_(parameter, mean=0.5, std=0.3)
    theirs = LTXVideoTransformer3DModel(
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        num_attention_heads=num_heads,
        attention_head_dim=head_dim,
        cross_attention_dim=num_heads * head_dim,
        num_layers=3,
        caption_channels=CAPTION_CHANNELS,
    ).eval()
    theirs.load_state_dict({diffusers_name(k): v for k, v in ours.state_dict().items()})
    return ours, theirs


# Widths that leave 2 (as LTX-Video 2B), 4 and 0 when divided by 6.
@pytest.mark.parametrize(("num_heads", "head_dim"), [(4, 32), (4, 16), (3, 32)])
@pytest.mark.parametrize("per_token", [False, True])
@torch.no_grad()
def test_it_computes_what_diffusers_does(num_heads: int, head_dim: int, per_token: bool) -> None:
    ours, theirs = pair(num_heads, head_dim)
    frames, height, width = 3, 4, 5
    tokens = frames * height * width
    coordinates = grid_coordinates(
        [torch.tensor(8 * i / 24) for i in range(frames)], height, width, 32
    )
    latents = torch.randn(2, tokens, CHANNELS)
    caption = torch.randn(2, 7, CAPTION_CHANNELS)
    mask = torch.arange(7)[None] < torch.tensor([[4], [7]])
    timestep = torch.rand(2, tokens if per_token else 1)
    expected = theirs(
        hidden_states=latents,
        encoder_hidden_states=caption,
        timestep=1000 * timestep,
        encoder_attention_mask=mask.long(),
        video_coords=coordinates.T[None].expand(2, -1, -1),
        return_dict=False,
    )[0]
    # One group a token, or one for all.
    groups = latents[:, :, None] if per_token else latents[:, None]
    result = ours(groups, timestep, rope(coordinates, num_heads * head_dim), caption, mask)
    assert expected.std() > 0.1
    torch.testing.assert_close(result.reshape(expected.shape), expected, atol=1e-4, rtol=0)


def test_rotation_pads_in_front() -> None:
    cos, sin = rope(torch.tensor([[1.0, 64.0, 96.0]]), 16)
    assert cos.shape == (1, 16)
    assert (cos[:, :4] == 1).all() and (sin[:, :4] == 0).all()
    assert (cos[:, 4::2] == cos[:, 5::2]).all()
    # The lowest frequency, over time, y and x.
    angles = torch.pi / 2 * (2 * torch.tensor([1 / 20, 64 / 2048, 96 / 2048]) - 1)
    torch.testing.assert_close(sin[0, 4:10:2], angles.sin())


def test_scores_depend_on_distance_alone() -> None:
    query, key = torch.randn(2, 1, 1, 48).unbind()
    scores = []
    for start in (-3.0, 0.0, 5.0):
        coordinates = torch.tensor([[start, 32.0, 64.0], [start + 0.5, 96.0, 64.0]])
        cos, sin = rope(coordinates, 48)
        turned = rotate(query, Rope(cos[:1], sin[:1])) * rotate(key, Rope(cos[1:], sin[1:]))
        scores.append(turned.sum())
    torch.testing.assert_close(scores[0], scores[1], atol=1e-2, rtol=0)
    torch.testing.assert_close(scores[2], scores[1], atol=1e-2, rtol=0)
