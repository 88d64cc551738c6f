"""Where and how a preset's engines run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from mirrorme_engines.batcher import BatchOptions

Platform = Literal["onnxruntime", "fake"]
Device = Literal["cpu", "cuda"]


@dataclass(frozen=True)
class EngineOptions:
    """Settings of `open_engines`."""

    platform: Platform = "onnxruntime"
    device: Device = "cpu"
    num_threads: int = 1
    """CPU threads that one engine computes with. Engines run beside each other."""
    warm_up: bool = True
    """Run every engine once before it is served; one that fails is refused at start."""
    batch: BatchOptions = field(default_factory=BatchOptions)

    def __post_init__(self) -> None:
        """Refuses values that cannot work."""
        if self.num_threads < 1:
            raise ValueError(f"num_threads is {self.num_threads}: want at least 1")
