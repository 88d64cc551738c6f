"""What a session carries from chunk to chunk. Small, and all of it: engines keep nothing."""

from __future__ import annotations

from dataclasses import dataclass

from mirrorme_service.latent_history import LatentHistory, Latents
from mirrorme_service.model import Model, Strengths
from mirrorme_service.pcm_ring import PcmRing
from mirrorme_service.utterances import Utterances


@dataclass
class SessionState:
    """The state at a chunk boundary. With it any gateway can make the next chunk."""

    seed: int
    strengths: Strengths
    identity: Latents
    latents: LatentHistory
    """Made so far; the last ones are the motion and decoder context."""
    pcm: PcmRing
    """Audio received; kept from the next chunk's window on."""
    utterances: Utterances
    num_chunks: int = 0
    """Denoised so far, and so the number of the next one."""
    epoch: int = 0

    @classmethod
    def start(
        cls, model: Model, *, seed: int, strengths: Strengths, identity: Latents
    ) -> SessionState:
        """Before the first chunk: silence was heard and the portrait stood still."""
        chunk = model.manifest.chunk
        made = (model.lookahead_chunks + 1) * chunk.num_latents
        num_kept = max(chunk.motion_latents, chunk.decoder_context_latents + made)
        return cls(
            seed=seed,
            strengths=strengths,
            identity=identity,
            latents=LatentHistory(identity, num_kept),
            pcm=PcmRing(),
            utterances=Utterances(model.clock),
        )
