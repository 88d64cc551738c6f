"""wav2vec2, published or made causal with a bounded look-ahead."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from transformers import Wav2Vec2Config, Wav2Vec2Model

from mirrorme_model.audio_config import AudioConfig, BackboneConfig
from mirrorme_model.log_mel import LogMel


class SpeechBackbone(nn.Module):
    """All hidden states of a `transformers.Wav2Vec2Model`.

    With `AudioConfig.band`, the positional convolution sees the past alone and every attention
    layer a band, so features of a window equal those of the whole clip. Without, it is the
    published network: full attention, symmetric convolution.

    Parameters are named as in Hugging Face's folders, below `wav2vec2`.
    """

    def __init__(self, config: AudioConfig) -> None:
        super().__init__()
        self._config = config
        self.wav2vec2 = Wav2Vec2Model(wav2vec2_config(config.backbone))
        if config.backbone.frontend == "log_mel":
            mel = LogMel(config.backbone.conv_dim[0], config.sample_rate_hz)
            self.wav2vec2.add_module("feature_extractor", mel)
            # The norm would hide how loud the speech is.
            self.wav2vec2.feature_projection.add_module("layer_norm", nn.Identity())
        if config.band:
            self._position_conv.padding = (0,)

    @property
    def _position_conv(self) -> nn.Conv1d:
        conv = self.wav2vec2.encoder.pos_conv_embed.conv
        assert isinstance(conv, nn.Conv1d)
        return conv

    @property
    def num_states(self) -> int:
        """Hidden states: the first layer's input, and each layer's output."""
        return self._config.backbone.num_layers + 1

    def forward(self, pcm: Tensor) -> list[Tensor]:
        """Runs the backbone.

        Args:
            pcm: [B, N] at the config's rate.

        Returns:
            `num_states` tensors [B, features, hidden_size]. Feature i is made of the samples from
            i·hop on, as many as `BackboneConfig.reach_samples` (and of those that attention adds).
        """
        if self._config.window and self._config.window.normalize:
            variance, mean = torch.var_mean(pcm, dim=1, correction=0, keepdim=True)
            pcm = (pcm - mean) * torch.rsqrt(variance + 1e-7)
        features = self.wav2vec2.feature_extractor(pcm).transpose(1, 2)
        x, _ = self.wav2vec2.feature_projection(features)
        x = x + self._positions(x)
        encoder = self.wav2vec2.encoder
        stable = self._config.backbone.stable_layer_norm
        if not stable:
            x = encoder.layer_norm(x)
        states = [x]
        for layer, mask in zip(encoder.layers, self._masks(x), strict=True):
            x = layer(x, attention_mask=mask)
            states.append(x)
        if stable:
            states[-1] = encoder.layer_norm(x)
        return states

    def _positions(self, x: Tensor) -> Tensor:
        embedding = self.wav2vec2.encoder.pos_conv_embed
        if not self._config.band:
            return embedding(x)
        past = self._config.backbone.pos_conv_kernel - 1
        padded = nn.functional.pad(x.transpose(1, 2), (past, 0))
        return embedding.activation(self._position_conv(padded)).transpose(1, 2)

    def _masks(self, x: Tensor) -> list[Tensor | None]:
        """Added to the scores of each layer: [1, 1, features, features]."""
        band = self._config.band
        if not band:
            return [None] * self._config.backbone.num_layers
        index = torch.arange(x.shape[1], device=x.device)
        ahead = index[None, :] - index[:, None]
        lowest = torch.finfo(x.dtype).min
        masks: list[Tensor | None] = []
        for lookahead in band.lookahead_features:
            seen = (ahead >= -band.past_features) & (ahead <= lookahead)
            masks.append(
                torch.zeros_like(seen, dtype=x.dtype).masked_fill(~seen, lowest)[None, None]
            )
        return masks

    def bake_weight_norm(self) -> None:
        """Replaces the positional convolution by one without weight norm, for export.

        Not by `remove_parametrizations`: that takes the weight off a class which copies share. In
        double precision, so that the bytes do not depend on the number of threads.
        """
        conv = self._position_conv
        if not nn.utils.parametrize.is_parametrized(conv):
            return
        assert conv.bias is not None
        baked = nn.Conv1d(
            conv.in_channels, conv.out_channels, conv.kernel_size[0], groups=conv.groups
        )
        baked.padding = conv.padding
        exact = copy.deepcopy(conv).double().weight.detach()
        baked.weight = nn.Parameter(exact.to(conv.bias.dtype))
        baked.bias = nn.Parameter(conv.bias.detach().clone())
        self.wav2vec2.encoder.pos_conv_embed.conv = baked.to(conv.weight.device)


def wav2vec2_config(backbone: BackboneConfig) -> Wav2Vec2Config:
    """In transformers' terms; nothing random at training time."""
    config = Wav2Vec2Config(
        conv_dim=backbone.conv_dim,
        conv_kernel=backbone.conv_kernel,
        conv_stride=backbone.conv_stride,
        conv_bias=backbone.conv_bias,
        feat_extract_norm=backbone.feature_norm,
        hidden_size=backbone.hidden_size,
        num_hidden_layers=backbone.num_layers,
        num_attention_heads=backbone.num_heads,
        intermediate_size=backbone.intermediate_size,
        num_conv_pos_embeddings=backbone.pos_conv_kernel,
        num_conv_pos_embedding_groups=backbone.pos_conv_groups,
        do_stable_layer_norm=backbone.stable_layer_norm,
        hidden_dropout=0.0,
        activation_dropout=0.0,
        attention_dropout=0.0,
        feat_proj_dropout=0.0,
        layerdrop=0.0,
        apply_spec_augment=False,
        mask_time_prob=0.0,
        mask_feature_prob=0.0,
    )
    config._attn_implementation = "sdpa"
    return config
