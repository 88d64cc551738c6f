"""The blocking side of an in-process engine: tensors in, tensors out, on a thread of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mirrorme_engines.engine import Tensors
from mirrorme_engines.manifest import EngineSpec
from mirrorme_engines.tensor_check import check_outputs


class Compute(Protocol):
    """Runs one batch at a time. Only `abort` is called from another thread than `run`."""

    def run(self, inputs: Tensors) -> dict[str, NDArray[np.generic]]:
        """Runs the graph once; the outputs share no memory with the inputs.

        Raises:
            EngineFault: the graph failed.
            EngineUnavailable: it was aborted.
        """
        ...

    def abort(self) -> None:
        """Makes the current run and all later ones end soon, with EngineUnavailable."""
        ...

    def pool_cpu_s(self) -> float:
        """CPU time so far of its threads besides the one that calls `run`."""
        ...


def run_joined(
    spec: EngineSpec, compute: Compute, calls: Sequence[Tensors], sizes: Sequence[int]
) -> list[dict[str, NDArray[np.generic]]]:
    """Runs calls joined along the batch axis and gives each its own rows, in memory of its own.

    Args:
        spec: what the outputs are checked against.
        compute: runs the joined call.
        calls: checked inputs; `sizes[i]` is the batch size of `calls[i]`.
        sizes: rows of each call.

    Raises:
        EngineFault: the run failed, or an output is not what the spec says, or not a number.
    """
    if len(calls) == 1:
        outputs = compute.run(calls[0])
        check_outputs(spec, outputs, sizes[0])
        return [outputs]
    names = [tensor.name for tensor in spec.inputs]
    outputs = compute.run({name: np.concatenate([call[name] for call in calls]) for name in names})
    check_outputs(spec, outputs, sum(sizes))
    ends = np.cumsum(sizes)
    return [
        {name: array[end - size : end].copy() for name, array in outputs.items()}
        for size, end in zip(sizes, ends, strict=True)
    ]
