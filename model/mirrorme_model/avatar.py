"""The whole model of one config: VAE, audio encoder, denoiser."""

from __future__ import annotations

import hashlib

import torch
from torch import nn

from mirrorme_model.attention import Attention
from mirrorme_model.audio_encoder import AudioEncoder
from mirrorme_model.config import ModelConfig
from mirrorme_model.denoiser import Denoiser
from mirrorme_model.face_flow import FaceFlow
from mirrorme_model.hand_layer import HandLayer
from mirrorme_model.vae import VideoVae
from mirrorme_model.vae_layers import FaceShift
from mirrorme_model.video_decoder import SketchInput


class AvatarModel(nn.Module):
    """Owns the three networks; `config` says all that is needed to build it again.

    A new model's adapters change nothing: their last layers are zero. The weights are drawn from
    torch's global generator; `random` is the deterministic way.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.vae = VideoVae(config.vae)
        self.audio = AudioEncoder(config)
        self.denoiser = Denoiser(config)

    @classmethod
    def random(cls, config: ModelConfig, seed: int, *, zero_adapters: bool = False) -> AvatarModel:
        """A model with random weights, in evaluation mode: the same for the same config and seed.

        Args:
            config: of the model.
            seed: of the weights.
            zero_adapters: True: layers that start at zero stay so, as training wants it. False:
                they are random too, so that every input has an effect.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = cls(config)
            if not zero_adapters:
                model._fill_zeros()
        return model.eval()

    @torch.no_grad()
    def _fill_zeros(self) -> None:
        """Gives random values to the layers that start at zero."""
        denoiser = self.denoiser
        nn.init.normal_(denoiser.token_types, std=0.5)
        nn.init.normal_(self.audio.tokens.padding, std=0.5)
        nn.init.normal_(self.audio.tokens.null, std=0.5)
        if denoiser.prompt is not None:
            nn.init.normal_(denoiser.prompt, std=0.1)
        outputs: list[nn.Module] = [
            m.to_out[0] for m in denoiser.audio_adapters.modules() if isinstance(m, Attention)
        ]
        outputs.append(denoiser.control_embedding.output)
        if denoiser.hand_encoder is not None:
            outputs.append(denoiser.hand_encoder.output)
        if self.vae.decoder is not None:
            told = list(self.vae.decoder.modules())
            outputs += [module.linear for module in told if isinstance(module, FaceShift)]
            outputs += [module.output for module in told if isinstance(module, SketchInput)]
            outputs += [m.output.conv for m in told if isinstance(m, FaceFlow | HandLayer)]
        if denoiser.guidance_embedding is not None:
            outputs.append(denoiser.guidance_embedding.embedder.linear_2)
        for layer in outputs:
            assert isinstance(layer, nn.Linear | nn.Conv2d)
            nn.init.normal_(layer.weight, std=layer.weight[0].numel() ** -0.5)

    def weights_sha256(self) -> str:
        """Hash of all weights, names and config; the same weights give the same hash."""
        digest = hashlib.sha256(self.config.to_json().encode())
        for name, tensor in sorted(self.state_dict().items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().flatten().view(torch.uint8).numpy().data)
        return digest.hexdigest()
