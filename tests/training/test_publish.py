"""What is shipped: half precision, and a decoder that was trained beside the rest."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from mirrorme_model.avatar import AvatarModel
from mirrorme_model.checkpoint import Provenance, load_checkpoint, save_checkpoint
from mirrorme_model.config import LipsConfig
from mirrorme_model.errors import CheckpointError
from mirrorme_model.presets import preset
from mirrorme_training.cli import main
from mirrorme_training.publish import Blend, publish
from torch import nn

from tests.model.small_models import example, without_cues


@pytest.fixture
def whole() -> AvatarModel:
    config = preset("tiny")
    vae = dataclasses.replace(config.vae, encoder=None, patch_basis=True)
    return AvatarModel.random(dataclasses.replace(config, vae=vae), 0)


def saved(model: AvatarModel, path: Path, stage: str) -> Path:
    save_checkpoint(path, model, trained=True, provenance={"stage": stage})
    return path


def test_the_decoder_comes_from_its_own_run(whole: AvatarModel, tmp_path: Path) -> None:
    hands = saved(whole, tmp_path / "hands.safetensors", "hands")
    assert whole.vae.decoder is not None
    with torch.no_grad():
        for weight in whole.vae.decoder.parameters():
            weight.add_(0.25)
        for weight in whole.denoiser.parameters():
            weight.zero_()
    decoder = saved(whole, tmp_path / "decoder.safetensors", "vae")
    publish(hands, tmp_path / "out" / "shipped.safetensors", decoder)
    shipped = load_checkpoint(tmp_path / "out" / "shipped.safetensors")
    assert shipped.trained and shipped.provenance["stage"] == "hands"
    assert shipped.provenance["decoder"] == {"stage": "vae"}
    made = shipped.model.vae.state_dict()
    for name, weight in whole.vae.state_dict().items():
        torch.testing.assert_close(made[name], weight, atol=1e-3, rtol=1e-3)
    assert any(weight.any() for weight in shipped.model.denoiser.parameters())


def test_controls_are_amplified_and_the_card_says_so(whole: AvatarModel, tmp_path: Path) -> None:
    hands = saved(whole, tmp_path / "hands.safetensors", "hands")
    gains = {"eyeBlink": 2.0, "breath": 1.5}
    publish(hands, tmp_path / "shipped.safetensors", control_gains=gains)
    shipped = load_checkpoint(tmp_path / "shipped.safetensors")
    amplified = {"eyeBlinkLeft": 2.0, "eyeBlinkRight": 2.0, "breath": 1.5}
    assert shipped.provenance == {"stage": "hands", "control_gains": amplified}
    names = [control.name for control in whole.config.controls.controls]
    before, after = (
        m.denoiser.control_embedding.hidden.weight.unflatten(1, (8, 2, -1))[:, :, 0]
        for m in (whole, shipped.model)
    )
    for place, name in enumerate(names):
        wanted = amplified.get(name, 1.0) * before[..., place]
        torch.testing.assert_close(after[..., place], wanted, atol=1e-3, rtol=1e-3)
    with pytest.raises(ValueError, match="no control is named 'wink'"):
        publish(hands, tmp_path / "refused.safetensors", control_gains={"wink": 2.0})


def test_what_the_decoder_is_told_is_amplified(whole: AvatarModel, tmp_path: Path) -> None:
    decoder = whole.vae.decoder
    assert decoder is not None and decoder.flow is not None and decoder.face_in is not None
    nn.init.normal_(decoder.face_in[0].linear.weight)
    told = saved(whole, tmp_path / "told.safetensors", "decoder")
    publish(told, tmp_path / "shipped.safetensors", told_gains={"browDown": 4.0})
    shipped = load_checkpoint(tmp_path / "shipped.safetensors")
    assert shipped.provenance["told_gains"] == {"browDownLeft": 4.0, "browDownRight": 4.0}
    names = [control.name for control in whole.config.controls.controls]
    code = torch.zeros(1, 1, whole.vae.config.face_channels)
    code[..., 8:].unflatten(-1, (2, -1))[..., names.index("browDownLeft")] = 0.25
    code[..., 8:].unflatten(-1, (2, -1))[..., names.index("jawOpen")] = 0.5
    louder = code.clone()
    louder[..., 8:].unflatten(-1, (2, -1))[..., names.index("browDownLeft")] = 1.0
    theirs = shipped.model.vae.decoder
    assert theirs is not None and theirs.flow is not None and theirs.face_in is not None
    for ours, amplified in [
        (decoder.face_in[0], theirs.face_in[0]),
        (decoder.flow.face, theirs.flow.face),
    ]:
        wanted, got = ours.linear(louder), amplified.linear(code)
        torch.testing.assert_close(got, wanted, atol=1e-2, rtol=1e-2)
    untold = saved(AvatarModel.random(without_cues(), 0), tmp_path / "untold.safetensors", "hands")
    with pytest.raises(ValueError, match="no decoder that is told"):
        publish(untold, tmp_path / "refused.safetensors", told_gains={"browDown": 4.0})


@torch.no_grad()
def test_what_is_not_asked_is_not_guessed(whole: AvatarModel, tmp_path: Path) -> None:
    path = saved(whole, tmp_path / "code.safetensors", "code")
    publish(path, tmp_path / "shipped.safetensors", unguessed=["head", "browInnerUp"])
    shipped = load_checkpoint(tmp_path / "shipped.safetensors")
    still = ["browInnerUp", "head_yaw", "head_pitch", "head_roll"]
    assert sorted(shipped.provenance["unguessed"]) == sorted(still)
    names = [control.name for control in whole.config.controls.controls]
    places = [names.index(name) for name in still]
    code = shipped.model.denoiser.face_code
    assert code is not None
    _, conditions = example(whole.denoiser, batch=1)
    given = conditions.audio_tokens, conditions.expression
    values = torch.full((1, 8, len(names)), 0.5)
    unasked = code(*given, values, torch.zeros_like(values))[0, 0, 8:].unflatten(0, (2, -1))
    assert not unasked[:, places].any()
    assert unasked[:, [n for n in range(len(names)) if n not in places]].all()
    asked = code(*given, values, torch.ones_like(values))[0, 0, 8:].unflatten(0, (2, -1))
    torch.testing.assert_close(asked, (0.5 * code.scale).expand(2, -1))
    with pytest.raises(ValueError, match="no control is named 'wink'"):
        publish(path, tmp_path / "refused.safetensors", unguessed=["wink"])
    bare = saved(AvatarModel.random(without_cues(), 0), tmp_path / "bare.safetensors", "hands")
    with pytest.raises(ValueError, match="no face code"):
        publish(bare, tmp_path / "refused.safetensors", unguessed=["head"])


def test_lips_are_told_to_close_further(whole: AvatarModel, tmp_path: Path) -> None:
    hands = saved(whole, tmp_path / "hands.safetensors", "hands")
    output = tmp_path / "shipped.safetensors"
    arguments = ["publish", str(hands), "-o", str(output)]
    result = CliRunner().invoke(main, [*arguments, "--lips", "2", "0.03"])
    assert not result.exit_code, result.output
    shipped = load_checkpoint(output).model
    assert shipped.config == dataclasses.replace(whole.config, lips=LipsConfig(2.0, 0.03))
    for name, weight in whole.state_dict().items():
        torch.testing.assert_close(shipped.state_dict()[name], weight, atol=1e-3, rtol=1e-3)
    again = tmp_path / "again.safetensors"
    publish(output, again)
    assert load_checkpoint(again).model.config == shipped.config, "left as they are"
    assert CliRunner().invoke(main, [*arguments, "--lips", "-2", "0.03"]).exit_code


def test_weights_become_the_mean_of_two_runs(whole: AvatarModel, tmp_path: Path) -> None:
    first = saved(whole, tmp_path / "first.safetensors", "hands")
    other = AvatarModel.random(whole.config, 1)
    second = saved(other, tmp_path / "second.safetensors", "hands")
    publish(first, tmp_path / "mean.safetensors", blend=Blend(second, 0.25))
    mean = load_checkpoint(tmp_path / "mean.safetensors")
    assert mean.provenance["blend"] == {"stage": "hands", "share": 0.25}
    got, a, b = (m.state_dict() for m in (mean.model, whole, other))
    for name, weight in got.items():
        wanted = 0.75 * a[name] + 0.25 * b[name]
        torch.testing.assert_close(weight, wanted, atol=2e-3, rtol=2e-3)
    stranger = saved(AvatarModel.random(preset("tiny"), 0), tmp_path / "tiny.safetensors", "hands")
    with pytest.raises(CheckpointError, match="another model"):
        publish(first, tmp_path / "refused.safetensors", blend=Blend(stranger))


START = {"stage": "hands", "parent": {"stage": "vae"}}


@pytest.mark.parametrize(
    ("mixed_in", "told"),
    [
        (START, {"stages_ago": 2}),
        ({"stage": "code", "parent": START}, {"stage": "code", "parent": {"stages_ago": 2}}),
    ],
    ids=["what others went on from", "what went on from the same"],
)
def test_no_origin_of_weights_that_are_mixed_is_told_twice(
    mixed_in: Provenance, told: Provenance, whole: AvatarModel, tmp_path: Path
) -> None:
    later = {"stage": "decoder", "parent": {"stage": "decoder", "parent": START}}
    paths = [tmp_path / "later.safetensors", tmp_path / "mixed_in.safetensors"]
    for path, provenance in zip(paths, (later, mixed_in), strict=True):
        save_checkpoint(path, whole, trained=True, provenance=provenance)
    output = tmp_path / "mean.safetensors"
    publish(paths[0], output, blend=Blend(paths[1], 0.3))
    assert load_checkpoint(output).provenance == {**later, "blend": {**told, "share": 0.3}}


def test_weights_from_before_the_decoder_saw_hands_everywhere_may_be_mixed_in(
    tmp_path: Path,
) -> None:
    config = preset("tiny")
    assert config.vae.decoder is not None
    decoder = dataclasses.replace(config.vae.decoder, sketched_stages=(2, 3), hand_layer=False)
    vae = dataclasses.replace(config.vae, decoder=decoder)
    new = AvatarModel.random(config, 0)
    old = AvatarModel.random(dataclasses.replace(config, vae=vae), 1)
    publish(
        saved(new, tmp_path / "new.safetensors", "decoder"),
        tmp_path / "mean.safetensors",
        blend=Blend(saved(old, tmp_path / "old.safetensors", "decoder"), 0.5),
    )
    got, a = load_checkpoint(tmp_path / "mean.safetensors").model.state_dict(), new.state_dict()
    first = "vae.decoder.hands_in.0.output.weight"
    torch.testing.assert_close(got[first], a[first] / 2, atol=2e-3, rtol=2e-3)
    last = "vae.decoder.hands_in.3.output.weight"
    wanted = (a[last] + old.state_dict()[last]) / 2
    torch.testing.assert_close(got[last], wanted, atol=2e-3, rtol=2e-3)


def test_a_decoder_of_other_latents_is_refused(whole: AvatarModel, tmp_path: Path) -> None:
    hands = saved(whole, tmp_path / "hands.safetensors", "hands")
    assert whole.vae.basis is not None
    with torch.no_grad():
        whole.vae.basis.weight.mul_(2)
    decoder = saved(whole, tmp_path / "decoder.safetensors", "vae")
    with pytest.raises(CheckpointError, match="other latents"):
        publish(hands, tmp_path / "shipped.safetensors", decoder)
    assert not (tmp_path / "shipped.safetensors").exists()


@pytest.mark.parametrize(
    ("gain", "message"),
    [
        ("eyeBlink", "want NAME=GAIN"),
        ("eyeBlink=much", "want NAME=GAIN"),
        ("eyeBlink=0", "want NAME=GAIN"),
        ("wink=2", "no control is named 'wink'"),
    ],
)
def test_gains_that_make_no_sense_are_refused(
    whole: AvatarModel, tmp_path: Path, gain: str, message: str
) -> None:
    hands = saved(whole, tmp_path / "hands.safetensors", "hands")
    output = tmp_path / "shipped.safetensors"
    arguments = ["publish", str(hands), "-o", str(output), "--control-gain", gain]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code and message in result.output
    assert not output.exists()
