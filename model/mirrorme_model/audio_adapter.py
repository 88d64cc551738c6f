"""How speech enters the transformer: cross-attention after a block, one latent frame at a time."""

from __future__ import annotations

from torch import Tensor, nn

from mirrorme_model.attention import Attention, KeysValues
from mirrorme_model.config import DitConfig


class AudioAdapter(nn.Module):
    """Adds speech to a chunk's tokens; each latent frame sees its own audio tokens only.

    Its output projection starts at zero, so a fresh adapter changes nothing. Follows Wan-S2V's
    injector (arXiv 2508.18621).
    """

    def __init__(self, config: DitConfig, token_width: int) -> None:
        super().__init__()
        self.attention = Attention(config.width, config.num_heads, config.head_dim, token_width)
        for parameter in self.attention.to_out.parameters():
            nn.init.zeros_(parameter)

    def keys_values(self, audio_tokens: Tensor) -> KeysValues:
        """From [B, F, K, C]; valid for all steps of a chunk."""
        return self.attention.keys_values(audio_tokens.flatten(0, 1))

    def forward(self, x: Tensor, audio: KeysValues, expression: Tensor) -> Tensor:
        """[B, F, S, D] to the same; `expression`, [B, 1, 1, 1], is the strength."""
        frames = nn.functional.layer_norm(x, x.shape[-1:], eps=1e-6).flatten(0, 1)
        return x + expression * self.attention(frames, audio).unflatten(0, (-1, x.shape[1]))
