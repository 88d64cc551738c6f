"""ONNX Runtime, kept from reporting what it runs to its maker, and from keeping files for that.

Its wheels do so by default, on Linux too, and look at the variable only while they are imported:
import it from here.
"""

from __future__ import annotations

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime
from onnxruntime.capi import (
    onnxruntime_pybind11_state as ort_errors,  # pyright: ignore[reportAttributeAccessIssue] # C++
)

__all__ = ["onnxruntime", "ort_errors"]
