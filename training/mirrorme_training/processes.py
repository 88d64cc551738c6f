"""The processes that train together: one, or as many as `accelerate launch` or `torchrun` started.

Alone, every call gives back what it is given. Together, all processes must make the same calls in
the same order.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs
from torch import Tensor, nn


class Processes:
    """Owns the connection to the others; `close` ends it."""

    def __init__(self, device: torch.device) -> None:
        """Connects, to `device` of the kind that is given, where several have started."""
        # A stage may train a part of its weights at first.
        parallel = DistributedDataParallelKwargs(find_unused_parameters=True)
        # Half precision is the trainer's own.
        self._accelerator = Accelerator(
            cpu=device.type == "cpu", mixed_precision="no", kwargs_handlers=[parallel]
        )
        self.count = self._accelerator.num_processes
        self.rank = self._accelerator.process_index
        # One GPU each; CPUs, which torch cannot load onto by number, are shared.
        own = self.count > 1 and device.type != "cpu"
        self.device = self._accelerator.device if own else device

    @property
    def is_first(self) -> bool:
        """True for the one that writes files and prints."""
        return self.rank == 0

    def together(self, module: nn.Module) -> nn.Module:
        """The module, its gradients from now on the mean of all processes'.

        To be let go before `close`.
        """
        return self._accelerator.prepare_model(module) if self.count > 1 else module

    def apart(self, module: nn.Module) -> contextlib.AbstractContextManager[None]:
        """Inside, gradients of a `together` module stay with this process, and add up."""
        return self._accelerator.no_sync(module) if self.count > 1 else contextlib.nullcontext()

    def means(self, values: dict[str, float]) -> dict[str, float]:
        """Of all processes; the names must be the same everywhere."""
        if self.count == 1:
            return values
        rows = torch.tensor(list(values.values()), dtype=torch.float64, device=self.device)
        torch.distributed.all_reduce(rows)
        return dict(zip(values, (rows / self.count).tolist(), strict=True))

    def agreed(self, value: float) -> float:
        """The first process's."""
        if self.count == 1:
            return value
        held = torch.tensor([value], dtype=torch.float64, device=self.device)
        torch.distributed.broadcast(held, 0)
        return float(held)

    @torch.no_grad()
    def spread(self, modules: Iterable[nn.Module]) -> None:
        """Gives all processes the first one's weights and buffers."""
        if self.count == 1:
            return
        tensors: dict[int, Tensor] = {}
        for module in modules:
            for tensor in (*module.parameters(), *module.buffers()):
                tensors[id(tensor)] = tensor
        for tensor in tensors.values():
            torch.distributed.broadcast(tensor, 0)

    def close(self) -> None:
        """Waits for all, and ends the connection."""
        if self.count > 1:
            self._accelerator.wait_for_everyone()
            # The connection must not end with the last module that holds it: it waits for gloo's
            # threads, which may want Python's lock, and torch gives that free for itself alone.
            self._accelerator.free_memory()
            torch.distributed.destroy_process_group()
