"""Training steps as CUDA graphs: networks this small else wait for Python, kernel by kernel.

Steps of one kind run the same kernels on the same memory (see `Stage.kind`). The first few of a
kind run as they are written, the next one is recorded, and from then on the recording is replayed:
one launch for thousands.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Numbers = dict[str, Tensor]
_STEPS_BEFORE = 3
"""Libraries choose their algorithms and take their memory in the first steps of a kind."""


class StepGraphs:
    """Owns the recordings of one run."""

    def __init__(self, generator: torch.Generator) -> None:
        """`generator`: what steps draw from; seeded before each, by whoever runs them."""
        self._generator = generator
        self._stream = torch.cuda.Stream()
        self._pool = torch.cuda.graph_pool_handle()
        self._counts: dict[int, int] = {}
        self._recorded: dict[int, tuple[torch.cuda.CUDAGraph, Numbers]] = {}

    def run(self, kind: int, work: Callable[[], Numbers]) -> Numbers:
        """Does the work of a step, and gives the numbers that it gives."""
        if kind not in self._recorded:
            count = self._counts[kind] = self._counts.get(kind, 0) + 1
            if count <= _STEPS_BEFORE:
                return self._beside(work)
            self._recorded[kind] = self._record(work)
        graph, numbers = self._recorded[kind]
        graph.replay()
        # The next replay writes where this one did.
        return {name: value.clone() for name, value in numbers.items()}

    def _beside(self, work: Callable[[], Numbers]) -> Numbers:
        """On the stream that steps are recorded on, so that they find the same memory."""
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            numbers = work()
        torch.cuda.current_stream().wait_stream(self._stream)
        return numbers

    def _record(self, work: Callable[[], Numbers]) -> tuple[torch.cuda.CUDAGraph, Numbers]:
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(self._generator)
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream):
            numbers = work()
        return graph, numbers
