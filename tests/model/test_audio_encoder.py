"""The audio encoder: windows and whole clips agree, and later audio changes nothing earlier."""

import dataclasses

import pytest
import torch
from mirrorme_model.audio_config import AudioConfig, WindowConfig
from mirrorme_model.audio_encoder import AudioEncoder
from mirrorme_model.audio_tokens import AudioTokens
from mirrorme_model.config import ModelConfig
from mirrorme_model.presets import preset, wav2vec2_base, wav2vec2_large
from mirrorme_model.speech_backbone import SpeechBackbone, wav2vec2_config
from transformers import Wav2Vec2Model

from tests.model.small_models import speech


def encoder(config: ModelConfig) -> AudioEncoder:
    torch.manual_seed(0)
    return AudioEncoder(config).eval()


def windowed(config: ModelConfig, *, normalize: bool = True) -> ModelConfig:
    window = WindowConfig(past_features=20, lookahead_features=4, normalize=normalize)
    return dataclasses.replace(
        config, audio=dataclasses.replace(config.audio, band=None, window=window)
    )


BANDED = [
    preset("tiny"),
    preset("tiny", chunk_latents=2),
    preset("tiny", chunk_latents=3),
    preset("demo"),
]


@pytest.mark.parametrize("config", BANDED, ids=lambda c: f"{c.preset}-{c.chunk.num_latents}")
@torch.no_grad()
def test_chunks_equal_the_whole_clip(config: ModelConfig) -> None:
    audio = encoder(config)
    num_chunks, latents = 7, config.chunk.num_latents
    # Ends within the last chunk: the rest is silence.
    pcm = speech(int(num_chunks * audio.window.chunk_samples) - 2000, batch=2)
    whole = audio.encode_clip(pcm, num_chunks * latents)
    assert whole.shape == (
        2,
        num_chunks * latents,
        config.audio.num_tokens,
        config.audio.token_width,
    )
    assert whole[:, :, :-1].std() > 0.1
    chunks = [audio(*audio.window_of(pcm, chunk)) for chunk in range(num_chunks)]
    torch.testing.assert_close(torch.cat(chunks, dim=1), whole, atol=2e-5, rtol=0)


@torch.no_grad()
def test_later_audio_changes_nothing_earlier() -> None:
    config = preset("tiny")
    audio = encoder(config)
    window = audio.window
    pcm = speech(6 * 5334)
    before = audio.encode_clip(pcm, 6)
    for latent in range(5):
        start = int(latent * window.chunk_samples // 320) * 320 - window.past_samples
        end = start + window.window_samples
        changed = pcm.clone()
        changed[:, end:] += 1
        after = audio.encode_clip(changed, 6)
        torch.testing.assert_close(after[:, : latent + 1], before[:, : latent + 1], atol=0, rtol=0)
        assert (after[:, latent + 1 :] - before[:, latent + 1 :]).abs().max() > 1e-3


@torch.no_grad()
def test_all_of_the_window_that_is_ahead_is_used() -> None:
    """In one of the phases at least: the window is not longer than it must be."""
    audio = encoder(preset("tiny"))
    for layer in audio.backbone.wav2vec2.encoder.layers:
        # Fresh layers attend too faintly for rounding.
        layer.attention.v_proj.weight *= 10
        layer.attention.out_proj.weight *= 10
    pcm, _ = audio.window_of(speech(40000), 4)
    effects = []
    for phase in range(3):
        changed = pcm.clone()
        changed[:, -60:] += 1
        index = torch.tensor([phase])
        effects.append((audio(changed, index) - audio(pcm, index)).abs().max())
    assert max(effects) > 1e-5


@torch.no_grad()
def test_rows_of_a_batch_have_their_own_phase() -> None:
    # In double precision: libraries sum other batches in another order.
    audio = encoder(preset("tiny")).double()
    pcm, _ = audio.window_of(speech(40000).double(), 4)
    joined = audio(pcm.expand(3, -1), torch.tensor([0, 1, 2]))
    for phase in range(3):
        alone = audio(pcm, torch.tensor([phase]))
        torch.testing.assert_close(joined[phase : phase + 1], alone, atol=1e-6, rtol=0)
    assert (joined[0] - joined[1]).abs().max() > 1e-3


@pytest.mark.parametrize("latents", [1, 3])
@torch.no_grad()
def test_without_a_band_the_window_is_the_definition(latents: int) -> None:
    config = windowed(preset("tiny", chunk_latents=latents))
    audio = encoder(config)
    pcm = speech(40000)
    whole = audio.encode_clip(pcm, 2 * latents)
    second = audio(*audio.window_of(pcm, 1))
    torch.testing.assert_close(whole[:, latents:], second, atol=0, rtol=0)
    with pytest.raises(ValueError, match="want a multiple"):
        windowed_3 = encoder(windowed(preset("tiny", chunk_latents=3)))
        windowed_3.encode_clip(pcm, 4)


@torch.no_grad()
def test_normalised_windows_do_not_hear_loudness() -> None:
    quiet, loud = speech(40000), 3 * speech(40000)
    for normalize in (True, False):
        audio = encoder(windowed(preset("tiny"), normalize=normalize))
        same = torch.allclose(audio.encode_clip(quiet, 3), audio.encode_clip(loud, 3), atol=1e-3)
        assert same is normalize


def shrink(audio: AudioConfig, kind: str) -> AudioConfig:
    published = wav2vec2_base() if kind == "base" else wav2vec2_large()
    backbone = dataclasses.replace(
        published,
        conv_dim=(16,) * 7,
        hidden_size=32,
        num_layers=3,
        num_heads=4,
        intermediate_size=64,
        pos_conv_kernel=16,
    )
    window = WindowConfig(past_features=20, lookahead_features=4, normalize=False)
    return dataclasses.replace(audio, backbone=backbone, band=None, window=window)


@pytest.mark.parametrize("kind", ["base", "large"])
@torch.no_grad()
def test_without_a_band_it_is_the_published_network(kind: str) -> None:
    config = shrink(preset("tiny").audio, kind)
    torch.manual_seed(0)
    backbone = SpeechBackbone(config).eval()
    published = Wav2Vec2Model(wav2vec2_config(config.backbone)).eval()
    published.load_state_dict(backbone.wav2vec2.state_dict())
    pcm = speech(20000, batch=2)
    states = backbone(pcm)
    expected = published(pcm, output_hidden_states=True)
    assert len(states) == len(expected.hidden_states) == 4
    for ours, theirs in zip(states[:-1], expected.hidden_states[:-1], strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(states[-1], expected.last_hidden_state, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_baked_weight_norm_changes_nothing() -> None:
    torch.manual_seed(0)
    backbone = SpeechBackbone(preset("tiny").audio).eval()
    pcm = speech(8000)
    before = backbone(pcm)
    backbone.bake_weight_norm()
    for after, state in zip(backbone(pcm), before, strict=True):
        torch.testing.assert_close(after, state, atol=1e-6, rtol=1e-6)
    assert not any("parametrizations" in name for name in backbone.state_dict())
    backbone.bake_weight_norm()


@torch.no_grad()
def test_tokens_see_no_later_slot() -> None:
    config = preset("demo").audio
    torch.manual_seed(0)
    tokens = AudioTokens(config).eval()
    slots = torch.randn(1, 17 + 4 * 16, config.backbone.hidden_size)
    before = tokens(slots)
    assert before.shape == (1, 4, config.num_tokens, config.token_width)
    # The first slot of latent frame 2.
    slots[:, 17 + 2 * 16] += 1
    changed = (tokens(slots) - before).abs().amax(dim=(0, 2, 3))
    assert changed[:2].max() == 0
    assert changed[2:].min() > 0


def test_all_layers_are_mixed_and_learned() -> None:
    audio = AudioEncoder(preset("tiny"))
    audio.encode_clip(speech(20000), 3).add(1).square().sum().backward()
    for name, parameter in audio.named_parameters():
        if name != "tokens.null":
            assert parameter.grad is not None and parameter.grad.abs().max() > 0, name
