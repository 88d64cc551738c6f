"""ONNX Runtime, kept from reporting what it runs to its maker, and from keeping files for that.

Its wheels do so by default, on Linux too, and look at the variable only while they are imported:
import it from here.
"""

from __future__ import annotations

import os
from typing import Any

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime
from onnxruntime.capi import (
    onnxruntime_pybind11_state,  # pyright: ignore[reportAttributeAccessIssue] # C++
)

ort_errors: Any = onnxruntime_pybind11_state
"""The module of its exceptions."""

__all__ = ["onnxruntime", "ort_errors"]
