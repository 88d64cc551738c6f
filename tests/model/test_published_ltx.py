"""Published LTX-Video layouts, as diffusers writes them: the same numbers, or refused by name."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKLLTXVideo, LTXVideoTransformer3DModel
from diffusers.loaders.single_file_utils import (
    convert_ltx_transformer_checkpoint_to_diffusers,
    convert_ltx_vae_checkpoint_to_diffusers,
)
from mirrorme_model.errors import CheckpointError
from mirrorme_model.ltx_keys import transformer_keys
from mirrorme_model.published_ltx import TRANSFORMER, VAE, open_base
from mirrorme_model.rope import grid_coordinates, rope
from mirrorme_model.tensor_source import TensorSource
from mirrorme_model.transformer import Transformer
from mirrorme_model.vae import VideoVae
from safetensors.torch import load_file, save_file

from tests.model.published_files import (
    FULL,
    diffusers_transformer,
    diffusers_vae,
    full_shapes,
    single_file_names,
    small_config,
    write_hollow,
    write_single_file,
)

CONFIG = small_config()
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def transformer() -> LTXVideoTransformer3DModel:
    torch.manual_seed(0)
    network = diffusers_transformer(CONFIG).eval()
    for parameter in network.parameters():
        if parameter.dim() == 1:
            torch.nn.init.normal_(parameter, mean=0.5, std=0.3)
    return network


@pytest.fixture(scope="module")
def vae() -> AutoencoderKLLTXVideo:
    torch.manual_seed(1)
    network = diffusers_vae(CONFIG.vae).eval()
    network.latents_mean.normal_()
    network.latents_std.uniform_(0.5, 2)
    return network


@pytest.fixture(scope="module")
def folder(
    transformer: LTXVideoTransformer3DModel,
    vae: AutoencoderKLLTXVideo,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    path = tmp_path_factory.mktemp("folder")
    # In shards, with an index.
    transformer.save_pretrained(path / "transformer", max_shard_size="500KB")
    vae.save_pretrained(path / "vae")
    assert len(list((path / "transformer").glob("*.safetensors"))) > 1
    return path


@pytest.fixture(scope="module")
def single_file(
    transformer: LTXVideoTransformer3DModel,
    vae: AutoencoderKLLTXVideo,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    path = tmp_path_factory.mktemp("single") / "ltxv-small.safetensors"
    tensors = {f"transformer/{name}": t for name, t in transformer.state_dict().items()}
    tensors |= {f"vae/{name}": t for name, t in vae.state_dict().items()}
    names = single_file_names(CONFIG)
    settings = {
        "transformer": {"num_layers": 3, "causal_temporal_positioning": True, "novel": 1},
        "vae": {"causal_decoder": False, "timestep_conditioning": True, "patch_size": 4},
        "scheduler": {},
    }
    write_single_file(path, {names[name]: tensor for name, tensor in tensors.items()}, settings)
    return path


@pytest.fixture(params=["folder", "single_file"])
def base(request: pytest.FixtureRequest) -> TensorSource:
    return open_base(request.getfixturevalue(request.param), CONFIG)


def part(source: TensorSource, prefix: str) -> dict[str, torch.Tensor]:
    return {
        name.removeprefix(prefix): source.read(name)
        for name in source.shapes
        if name.startswith(prefix)
    }


@torch.no_grad()
def test_the_transformer_computes_what_diffusers_does(
    base: TensorSource, transformer: LTXVideoTransformer3DModel
) -> None:
    ours = Transformer(CONFIG.dit, 128).eval()
    ours.load_state_dict(part(base, TRANSFORMER))
    coordinates = grid_coordinates([torch.tensor(8 * i / 24) for i in range(3)], 2, 3, 32)
    latents, caption = torch.randn(2, 18, 128), torch.randn(2, 5, 24)
    timestep = torch.rand(2, 18)
    expected = transformer(
        hidden_states=latents,
        encoder_hidden_states=caption,
        timestep=1000 * timestep,
        encoder_attention_mask=torch.ones(2, 5),
        video_coords=coordinates.T[None].expand(2, -1, -1),
        return_dict=False,
    )[0]
    result = ours(latents[:, :, None], timestep, rope(coordinates, CONFIG.dit.width), caption)
    assert expected.std() > 0.1
    assert (result[:, :, 0] - expected).abs().max() <= TOLERANCE


@torch.no_grad()
def test_the_vae_computes_what_diffusers_does(
    base: TensorSource, vae: AutoencoderKLLTXVideo
) -> None:
    ours = VideoVae(CONFIG.vae).eval()
    ours.load_state_dict(part(base, VAE))
    frames = torch.rand(1, 3, 9, 64, 96) * 2 - 1
    mean, std = (t[:, None, None, None] for t in (vae.latents_mean, vae.latents_std))
    expected = (vae.encode(frames).latent_dist.mean - mean) / std
    latents = ours.encode(frames).mean
    assert latents.std() > 1e-2
    assert (latents - expected).abs().max() <= TOLERANCE
    decoded = vae.decode(ours.scale.to_decoder(latents), torch.tensor([0.05])).sample
    assert (ours.decode(latents) - decoded).abs().max() <= TOLERANCE


def test_tensors_are_float32_of_their_own(folder: Path, tmp_path: Path) -> None:
    half = tmp_path / "half"
    shutil.copytree(folder, half)
    for path in half.glob("*/*.safetensors"):
        save_file({name: t.bfloat16() for name, t in load_file(path).items()}, path)
    source, exact = open_base(half, CONFIG), open_base(folder, CONFIG)
    name = TRANSFORMER + "proj_out.weight"
    tensor = source.read(name)
    assert tensor.dtype == torch.float32
    assert (tensor - exact.read(name)).abs().max() > 0
    torch.testing.assert_close(tensor, exact.read(name), atol=1e-2, rtol=1e-2)
    tensor.zero_()
    assert source.read(name).abs().max() > 0


@pytest.fixture(scope="module")
def hollow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """LTX-Video 2B in full size in both layouts, without its numbers."""
    path = tmp_path_factory.mktemp("hollow")
    shapes = full_shapes()
    names = single_file_names(FULL)
    unused = {"vae.per_channel_statistics.mean-of-stds": (128,)}
    write_hollow(
        path / "ltxv-2b.safetensors", {names[n]: shape for n, shape in shapes.items()} | unused
    )
    for name in ("transformer", "vae"):
        (path / name).mkdir()
        own = {n.removeprefix(f"{name}/"): s for n, s in shapes.items() if n.startswith(name)}
        halves = list(own.items())
        half = len(halves) // 2
        index = {}
        for shard, items in enumerate((halves[:half], halves[half:])):
            file = f"shard-{shard}.safetensors"
            write_hollow(path / name / file, dict(items))
            index |= {key: file for key, _ in items}
        index_path = path / name / "diffusion_pytorch_model.safetensors.index.json"
        index_path.write_text(json.dumps({"metadata": {}, "weight_map": index}))
        (path / name / "config.json").write_text("{}")
    return path


@pytest.mark.parametrize("layout", ["", "ltxv-2b.safetensors"])
def test_every_key_of_full_size_is_used(hollow: Path, layout: str) -> None:
    source = open_base(hollow / layout, FULL)
    sizes = {name: torch.Size(shape).numel() for name, shape in source.shapes.items()}
    of_transformer = sum(size for name, size in sizes.items() if name.startswith(TRANSFORMER))
    assert of_transformer == 1_923_385_472
    assert sum(sizes.values()) - of_transformer == 694_098_881 + 552_814_641 + 2 * 128
    assert source.read(TRANSFORMER + "proj_out.bias").abs().max() == 0
    # It takes no room: nothing of it was ever written.
    assert sum(file.stat().st_blocks * 512 for file in hollow.rglob("*.safetensors")) < 10e6


def test_single_file_names_are_those_diffusers_converts() -> None:
    """The other direction, written by others."""
    shapes = full_shapes()
    single = {
        new: torch.empty(shapes[old], device="meta") for old, new in single_file_names(FULL).items()
    }
    converted = convert_ltx_vae_checkpoint_to_diffusers(single)
    found = {f"vae/{name}": tuple(tensor.shape) for name, tensor in converted.items()}
    # What is left is the transformer's.
    converted = convert_ltx_transformer_checkpoint_to_diffusers(single)
    found |= {f"transformer/{name}": tuple(tensor.shape) for name, tensor in converted.items()}
    assert found == shapes


def test_names_of_the_two_layouts_are_one_to_one() -> None:
    with torch.device("meta"):
        own = Transformer(FULL.dit, 128).state_dict()
    for layout in ("single_file", "diffusers"):
        assert len(set(transformer_keys(own, layout).values())) == len(own)


def edited(folder: Path, tmp_path: Path, file: str, **settings: object) -> Path:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    path = copy / file
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))
    return copy


@pytest.mark.parametrize(
    ("file", "setting", "value", "told"),
    [
        ("transformer/config.json", "num_attention_heads", 8, "num_attention_heads is 8, want 4"),
        ("transformer/config.json", "qk_norm", None, "qk_norm is None, want 'rms_norm_across"),
        ("vae/config.json", "decoder_causal", True, "decoder_causal is True, want False"),
        ("vae/config.json", "timestep_conditioning", False, "timestep_conditioning is False"),
    ],
)
def test_other_settings_are_refused(
    folder: Path, tmp_path: Path, file: str, setting: str, value: object, told: str
) -> None:
    with pytest.raises(CheckpointError, match=told):
        open_base(edited(folder, tmp_path, file, **{setting: value}), CONFIG)


def test_settings_in_a_single_file_are_checked(single_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    settings = {"transformer": {"causal_temporal_positioning": False}}
    save_file(load_file(single_file), path, {"config": json.dumps(settings)})
    with pytest.raises(CheckpointError, match="causal_temporal_positioning is False, want True"):
        open_base(path, CONFIG)
    save_file(load_file(single_file), path, {"config": "{"})
    with pytest.raises(CheckpointError, match="metadata config is not JSON"):
        open_base(path, CONFIG)
    # Without metadata, shapes decide.
    save_file(load_file(single_file), path)
    open_base(path, CONFIG)


def test_keys_that_do_not_fit_are_named(single_file: Path, tmp_path: Path) -> None:
    tensors = load_file(single_file)
    prefix = "model.diffusion_model."
    del tensors[prefix + "transformer_blocks.1.attn2.to_q.weight"]
    tensors[prefix + "audio_patchify_proj.weight"] = torch.zeros(3)
    tensors["vae.decoder.conv_in.conv.bias"] = torch.zeros(7)
    path = tmp_path / "wrong.safetensors"
    save_file(tensors, path)
    with pytest.raises(CheckpointError) as caught:
        open_base(path, CONFIG)
    for told in (
        str(path),
        "1 missing: model.diffusion_model.transformer_blocks.1.attn2.to_q.weight",
        "1 unexpected: model.diffusion_model.audio_patchify_proj.weight",
        "1 misshapen: vae.decoder.conv_in.conv.bias is [7], want [128]",
        "Lightricks/LTX-Video",
        "ltxv-2b-0.9.8-distilled.safetensors",
    ):
        assert told in str(caught.value)


def hollow_file(path: Path, **changes: tuple[int, ...] | None) -> Path:
    names, shapes = single_file_names(FULL), full_shapes()
    found = {names[name]: shape for name, shape in shapes.items()}
    for name, shape in changes.items():
        found = {n: s for n, s in found.items() if not n.startswith(name)}
        if shape:
            found[name] = shape
    write_hollow(path, found)
    return path


def test_versions_that_are_not_supported_are_named(tmp_path: Path) -> None:
    last = "model.diffusion_model.transformer_blocks.47.scale_shift_table"
    first = "model.diffusion_model.patchify_proj.weight"
    encoder = "vae.encoder.conv_out.conv.weight"
    cases: list[tuple[dict[str, tuple[int, ...] | None], str]] = [
        ({first: (4096, 128), last: (6, 4096)}, r"48 layers, 4096 wide \(LTX-Video 13B"),
        ({encoder: (129, 512, 3, 3, 3)}, "512 wide, as version 0.9.1's"),
        (
            {encoder: (129, 512, 3, 3, 3), "vae.decoder.": None},
            "as version 0.9.0's",
        ),
        ({"vae.": None}, r"holds no vae \(vae\.\*\)"),
        ({"model.": None}, r"holds no transformer \(model\.diffusion_model\.\*\)"),
    ]
    for index, (changes, told) in enumerate(cases):
        path = hollow_file(tmp_path / f"{index}.safetensors", **changes)
        with pytest.raises(CheckpointError, match=told) as caught:
            open_base(path, FULL)
        assert "Lightricks/LTX-Video-0.9.5" in str(caught.value)


def test_quantised_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "ltxv-fp8.safetensors"
    write_hollow(path, {"model.diffusion_model.proj_out.weight": (128, 2048)}, dtype="F8_E4M3")
    with pytest.raises(CheckpointError, match=r"proj_out\.weight as F8_E4M3: want float32"):
        open_base(path, FULL)


@pytest.mark.parametrize(
    ("missing", "told"),
    [
        ("vae", r"vae/config\.json is missing"),
        ("vae/diffusion_pytorch_model.safetensors", "vae holds neither"),
        ("transformer/config.json", r"transformer/config\.json is missing"),
    ],
)
def test_what_a_folder_lacks_is_named(
    folder: Path, tmp_path: Path, missing: str, told: str
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    path = copy / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(CheckpointError, match=told):
        open_base(copy, CONFIG)


def test_a_missing_shard_is_named(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    shard = sorted((copy / "transformer").glob("*.safetensors"))[0]
    shard.unlink()
    with pytest.raises(CheckpointError, match=f"lacks {shard.name}"):
        open_base(copy, CONFIG)


def test_a_path_that_is_not_there_says_where_files_are(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no base .*Lightricks/LTX-Video"):
        open_base(tmp_path / "nowhere.safetensors", CONFIG)
    (tmp_path / "text.safetensors").write_text("hello")
    with pytest.raises(CheckpointError, match="cannot be read"):
        open_base(tmp_path / "text.safetensors", CONFIG)


def test_small_files_are_not_taken_for_the_full_size(folder: Path) -> None:
    with pytest.raises(CheckpointError, match="want 28 layers, 2048 wide"):
        open_base(folder, FULL)
