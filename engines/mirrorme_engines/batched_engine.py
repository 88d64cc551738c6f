"""An in-process engine: validation, the micro-batcher, and a compute behind it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from mirrorme_engines.batcher import Batcher, BatchOptions
from mirrorme_engines.compute import Compute
from mirrorme_engines.engine import Tensors
from mirrorme_engines.errors import InvalidTensor
from mirrorme_engines.manifest import EngineSpec
from mirrorme_engines.observer import CallRecord, EngineObserver, SilentObserver
from mirrorme_engines.tensor_check import check_inputs


class BatchedEngine:
    """Makes an `Engine` of a blocking compute. Owns both until `close`."""

    def __init__(
        self,
        spec: EngineSpec,
        compute: Compute,
        options: BatchOptions | None = None,
        observer: EngineObserver | None = None,
        enter_thread: Callable[[], None] | None = None,
    ) -> None:
        """See `Batcher`."""
        self._spec = spec
        self._observer = observer or SilentObserver()
        self._batcher = Batcher(
            spec, compute, options or BatchOptions(), self._observer, enter_thread
        )

    @property
    def spec(self) -> EngineSpec:
        """Names, types and shapes, as the manifest gives them."""
        return self._spec

    async def infer(
        self, inputs: Tensors, *, timeout_s: float | None = None
    ) -> dict[str, NDArray[np.generic]]:
        """See `Engine.infer`."""
        try:
            num_rows = check_inputs(self._spec, inputs)
        except InvalidTensor:
            self._observer.call_ended(
                CallRecord(self._spec.name, self._spec.role, "invalid", 0.0, 0.0, 0)
            )
            raise
        # The caller may change its mapping, not its arrays, while the call waits.
        return await self._batcher.call(dict(inputs), num_rows, timeout_s)

    async def close(self) -> None:
        """See `Engine.close`."""
        await self._batcher.close()
