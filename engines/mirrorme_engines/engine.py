"""The engine contract: one stateless, batchable tensor function, and the set a preset needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mirrorme_engines.manifest import EngineSpec, Manifest

Tensors: TypeAlias = Mapping[str, NDArray[np.generic]]


class Engine(Protocol):
    """A pure function of its inputs, callable from many tasks of one event loop at once.

    Every call may be joined with other calls along the batch axis; a call's result does not depend
    on what it was joined with.
    """

    @property
    def spec(self) -> EngineSpec:
        """Names, types and shapes, as the manifest gives them."""
        ...

    async def infer(
        self, inputs: Tensors, *, timeout_s: float | None = None
    ) -> dict[str, NDArray[np.generic]]:
        """Runs the engine once.

        Args:
            inputs: every input of `spec` by name, each `[B, *dims]` with the same
                `1 <= B <= spec.max_batch_size`. The arrays are not changed, and must not be changed
                until the call returns.
            timeout_s: the most this call may take, queueing included. None: the engine's default.

        Returns:
            Every output of `spec` by name, each `[B, *dims]`, owned by the caller.

        Raises:
            InvalidTensor, EngineFault, EngineOverloaded, EngineTimeout, EngineUnavailable
        """
        ...

    async def close(self) -> None:
        """Ends running calls with EngineUnavailable and frees what the engine holds. Idempotent."""
        ...


@dataclass(frozen=True)
class EngineSet:
    """The engines of one preset, all of the same weights."""

    manifest: Manifest
    identity_encoder: Engine
    audio_encoder: Engine
    denoiser: Engine
    decoder: Engine
    platform: str
    """Where they run, for people, for example `onnxruntime 1.32.0 CPU`."""

    other_denoisers: tuple[Engine, ...] = ()
    """Denoisers with other numbers of steps, in the manifest's order; same inputs and outputs."""

    @property
    def engines(self) -> tuple[Engine, ...]:
        """All engines of the set."""
        encoders = (self.identity_encoder, self.audio_encoder)
        return (*encoders, self.denoiser, self.decoder, *self.other_denoisers)

    async def close(self) -> None:
        """Closes all engines."""
        for engine in self.engines:
            await engine.close()
