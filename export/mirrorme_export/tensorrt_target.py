"""What plans are built for: which TensorRT, which GPU, and how precisely it computes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from mirrorme_engines import tensorrt_module
from mirrorme_engines.errors import EngineUnavailable
from mirrorme_engines.gpu import Gpu, current_gpu
from mirrorme_engines.manifest import EngineSpec
from mirrorme_engines.tensorrt_plan import Precision, Profile, TensorRTModule

from mirrorme_export.errors import InvalidRequest
from mirrorme_export.tensorrt_errors import TensorRTUnavailable

Target = Literal["tensorrt", "tensorrt-rtx"]
TARGETS: tuple[Target, ...] = get_args(Target)
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
_MODULES: dict[Target, TensorRTModule] = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}
FIRST_FP8_ARCHITECTURE = 89


@dataclass(frozen=True)
class TensorRTOptions:
    """What one builds."""

    target: Target = "tensorrt-rtx"
    gpu: str | None = None
    """Architecture such as `sm89`; None: of the GPU at hand."""
    precision: Precision = "fp16"
    typical_batch_size: int = 4
    """What the plan is tuned for; at most the engine's largest."""
    workspace_mib: int | None = None
    """Most GPU memory that one layer may use for scratch; None: no bound."""
    optimization_level: int | None = None
    """0 to 5, more is slower to build; None: TensorRT's default."""
    calibration: Path | None = None
    """Folder of portraits and speech that fp8 is calibrated with; no other precision needs it."""
    calibration_chunks: int = 8
    """Chunks of speech that each portrait says; as many more are tested with."""

    def __post_init__(self) -> None:
        """Refuses values that cannot work."""
        if self.target not in TARGETS:
            raise InvalidRequest(f"target {self.target!r}: want one of {', '.join(TARGETS)}")
        if self.precision not in PRECISIONS:
            raise InvalidRequest(
                f"precision {self.precision!r}: want one of {', '.join(PRECISIONS)}"
            )
        if self.gpu is not None and not re.fullmatch(r"sm\d{2,3}", self.gpu):
            raise InvalidRequest(f"gpu {self.gpu!r}: want an architecture, such as sm89")
        if self.typical_batch_size < 1:
            raise InvalidRequest(f"typical batch size {self.typical_batch_size}: want 1 or more")
        if self.calibration_chunks < 1:
            raise InvalidRequest(f"calibration chunks {self.calibration_chunks}: want 1 or more")

    @property
    def module(self) -> TensorRTModule:
        """The Python module of the target."""
        return _MODULES[self.target]

    def flags(self) -> tuple[str, ...]:
        """What else the plan depends on, as text."""
        flags = ["TF32"] if self.precision == "tf32" else []
        if self.workspace_mib is not None:
            flags.append(f"workspace_mib={self.workspace_mib}")
        if self.optimization_level is not None:
            flags.append(f"optimization_level={self.optimization_level}")
        return tuple(flags)


@dataclass(frozen=True)
class Device:
    """The GPU that a plan is for."""

    architecture: str
    name: str
    """Of the GPU whose kernels were timed for the plan; empty where none are."""
    is_here: bool = False
    """True: the plan can be loaded where it is built."""

    def check_precision(self, precision: Precision) -> None:
        """Refuses what the GPU cannot compute.

        Raises:
            InvalidRequest: fp8 on a GPU older than Ada.
        """
        if precision == "fp8" and int(self.architecture[2:]) < FIRST_FP8_ARCHITECTURE:
            raise InvalidRequest(
                f"precision fp8 on {self.architecture}: want sm{FIRST_FP8_ARCHITECTURE} (Ada) or "
                "newer; use fp16 or bf16"
            )


def load_tensorrt(module: TensorRTModule) -> Any:
    """Imports `tensorrt` or `tensorrt_rtx`, which have the same interface.

    Raises:
        TensorRTUnavailable: it is not installed, or too old.
    """
    try:
        return tensorrt_module.load_tensorrt(module)
    except EngineUnavailable as error:
        raise TensorRTUnavailable(str(error)) from error


def find_device(trt: Any, options: TensorRTOptions, gpu: Gpu | None = None) -> Device:
    """The GPU that the options mean.

    Args:
        trt: the module.
        options: what was asked for.
        gpu: the GPU at hand; None: asks the driver.

    Raises:
        TensorRTUnavailable: there is none, or TensorRT cannot build for it from here.
    """
    here = gpu or current_gpu()
    if options.target == "tensorrt":
        if here is None:
            raise TensorRTUnavailable(
                "target tensorrt builds on the GPU that will run the plan, and there is none "
                "here: run it there, or use --target tensorrt-rtx --gpu sm89"
            )
        if options.gpu not in (None, here.architecture):
            raise TensorRTUnavailable(
                f"target tensorrt builds for the GPU at hand, {here.name} ({here.architecture}), "
                f"not for {options.gpu}"
            )
        return Device(here.architecture, here.name, is_here=True)
    architecture = options.gpu or (here.architecture if here else None)
    known = [name.lower() for name in trt.ComputeCapability.__members__ if name.startswith("SM")]
    if architecture is None:
        raise TensorRTUnavailable(f"no GPU here: say --gpu, one of {', '.join(known)}")
    if architecture not in known:
        raise TensorRTUnavailable(
            f"{options.target} {trt.__version__} cannot build for {architecture}: "
            f"want one of {', '.join(known)}"
        )
    return Device(architecture, "", is_here=here is not None and here.architecture == architecture)


def profiles(spec: EngineSpec, typical_batch_size: int) -> tuple[Profile, ...]:
    """The one profile of an engine: batches from one to the manifest's largest."""
    typical = min(typical_batch_size, spec.max_batch_size)
    return tuple(
        Profile(
            tensor.name,
            (1, *tensor.dims),
            (typical, *tensor.dims),
            (spec.max_batch_size, *tensor.dims),
        )
        for tensor in spec.inputs
    )
