"""Calls of engines for one session's row: deadline, bounded retries, errors in the gateway's words.

Engines are pure functions, so a call that failed is simply made again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from mirrorme_engines.engine import Engine
from mirrorme_engines.errors import EngineError
from numpy.typing import NDArray

from mirrorme_service.errors import from_engine
from mirrorme_service.metrics import Metrics

log = logging.getLogger(__name__)

_FIRST_PAUSE_S = 0.05


@dataclass(frozen=True)
class EngineCalls:
    """How engines are called."""

    timeout_s: float
    """Of one attempt, queueing included."""
    max_attempts: int
    metrics: Metrics

    async def row(
        self,
        engine: Engine,
        inputs: Mapping[str, NDArray[np.generic] | float],
        timeout_s: float | None = None,
    ) -> dict[str, NDArray[np.generic]]:
        """Runs an engine for one row.

        Args:
            engine: what to run.
            inputs: at least every input of the engine's spec, without the batch dimension; a number
                fills its tensor.
            timeout_s: of one attempt, instead of the usual one.

        Returns:
            Every output, without the batch dimension.

        Raises:
            AnimationError: when no attempt succeeded.
        """
        batch = {
            tensor.name: _as_batch(inputs[tensor.name], tensor.dims, np.dtype(tensor.dtype))
            for tensor in engine.spec.inputs
        }
        timeout_s = self.timeout_s if timeout_s is None else timeout_s
        for attempt in range(1, self.max_attempts + 1):
            try:
                outputs = await engine.infer(batch, timeout_s=timeout_s)
                return {name: output[0] for name, output in outputs.items()}
            except EngineError as error:
                if not error.retryable or attempt == self.max_attempts:
                    raise from_engine(error) from error
                log.warning("engine %s, attempt %d: %s", engine.spec.name, attempt, error)
            self.metrics.engine_retries.labels(engine.spec.name).inc()
            await asyncio.sleep(_FIRST_PAUSE_S * 2 ** (attempt - 1))
        raise AssertionError("max_attempts is at least 1")


def _as_batch(
    value: NDArray[np.generic] | float, dims: tuple[int, ...], dtype: np.dtype[np.generic]
) -> NDArray[np.generic]:
    if isinstance(value, np.ndarray):
        return np.ascontiguousarray(value[None], dtype)
    return np.full((1, *dims), value, dtype)
