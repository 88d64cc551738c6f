"""TensorRT itself: `tensorrt` or `tensorrt_rtx`, which share one interface, and what it says."""

from __future__ import annotations

import importlib
from collections import deque
from typing import Any

from mirrorme_engines.errors import EngineUnavailable
from mirrorme_engines.tensorrt_plan import TensorRTModule

OLDEST_VERSION = (10, 12)
"""Of `tensorrt`: the first whose strongly typed networks need no other flags."""
_NUM_KEPT_ERRORS = 4


def load_tensorrt(module: TensorRTModule) -> Any:
    """Imports `tensorrt` or `tensorrt_rtx`.

    Raises:
        EngineUnavailable: it is not installed, or too old.
    """
    try:
        trt = importlib.import_module(module)
    except (ImportError, OSError) as error:
        where = {
            "tensorrt": "run this in NVIDIA's Triton or TensorRT container, which hold it",
            "tensorrt_rtx": "pip install 'mirrorme[tensorrt-rtx]'",
        }[module]
        raise EngineUnavailable(f"{module} is not installed ({error}): {where}") from error
    # Without its libraries the package is an empty shell.
    version = getattr(trt, "__version__", "0")
    if not hasattr(trt, "Builder"):
        raise EngineUnavailable(f"{module} {version} has no Builder: it is not fully installed")
    if module == "tensorrt" and tuple(map(int, version.split(".")[:2])) < OLDEST_VERSION:
        oldest = ".".join(map(str, OLDEST_VERSION))
        raise EngineUnavailable(f"tensorrt is {version}: want {oldest} or newer")
    return trt


def tensorrt_log(trt: Any) -> Any:
    """An `ILogger` of the given module that keeps warnings, and the last errors for `said`."""

    class Log(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.warnings: list[str] = []
            self._errors: deque[str] = deque(maxlen=_NUM_KEPT_ERRORS)

        def log(self, severity: Any, msg: str) -> None:
            """One line of TensorRT's, from any of its threads."""
            if severity <= trt.ILogger.ERROR:
                self._errors.append(msg)
            elif severity == trt.ILogger.WARNING:
                self.warnings.append(msg)

        def said(self) -> str:
            """The last errors, oldest first."""
            return "; ".join(self._errors) or "TensorRT gave no reason"

    return Log()
