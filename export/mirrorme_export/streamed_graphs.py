"""The graphs of a model that is not in memory: one after another, each with its own weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from mirrorme_model.graphs import DenoiserGraph
from mirrorme_model.model_weights import ModelWeights
from torch import nn

from mirrorme_export.engine_graphs import (
    EngineGraph,
    LateWeights,
    denoiser_sigmas,
    engine_graph,
    engine_names,
)

_PARTS = {
    "identity_encoder": ("vae.encoder.", "vae.scale.", "vae.basis."),
    "audio_encoder": ("audio.",),
    "decoder": ("vae.decoder.", "vae.scale.", "vae.basis."),
}
_DENOISER = "denoiser."


def streamed_graphs(
    weights: ModelWeights, other_steps: tuple[int, ...] = ()
) -> Iterator[EngineGraph]:
    """As `engine_graphs`, each made when it is asked for.

    The denoisers, whose graph has the model's weights as they are, are traced without them.
    """
    for name in engine_names(weights.config, other_steps):
        parts = _PARTS.get(name)
        yield engine_graph(weights.load(*parts), name) if parts else _denoiser(weights, name)


def _denoiser(weights: ModelWeights, name: str) -> EngineGraph:
    graph = engine_graph(weights.unread(_DENOISER), name)
    sigmas = denoiser_sigmas(weights.config, name)

    def load() -> nn.Module:
        return DenoiserGraph(weights.load(_DENOISER).denoiser, sigmas).eval()

    shapes = {n: s for n, s in weights.source.shapes.items() if n.startswith(_DENOISER)}
    return dataclasses.replace(graph, late=LateWeights(shapes, weights.source.read, load))
