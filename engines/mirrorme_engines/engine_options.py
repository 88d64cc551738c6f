"""Where and how a preset's engines run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from mirrorme_engines.batcher import BatchOptions
from mirrorme_engines.triton_options import TritonOptions

Platform = Literal["onnxruntime", "tensorrt", "triton", "fake"]
Device = Literal["cpu", "cuda"]


@dataclass(frozen=True)
class EngineOptions:
    """Settings of `open_engines`."""

    platform: Platform = "onnxruntime"
    device: Device = "cpu"
    num_threads: int = 2
    """CPU threads that one engine computes with, the audio encoder left out, which has one. Engines
    run beside each other."""
    warm_up: bool = True
    """Run every engine once before it is served; one that fails is refused at start."""
    batch: BatchOptions = field(default_factory=BatchOptions)
    """Of in-process engines; Triton has its own queues."""
    triton: TritonOptions | None = None
    """For the platform `triton`, and only for it."""

    def __post_init__(self) -> None:
        """Refuses values that cannot work."""
        if self.num_threads < 1:
            raise ValueError(f"num_threads is {self.num_threads}: want at least 1")
        if (self.triton is not None) != (self.platform == "triton"):
            raise ValueError("triton options go with the platform triton, and it with them")
