"""What can go wrong with TensorRT, named by what the caller can do about it."""

from __future__ import annotations

from mirrorme_export.errors import ExportError


class TensorRTUnavailable(ExportError):
    """The TensorRT that was asked for is not installed, or cannot build for the GPU."""


class UnbuildableGraph(ExportError):
    """TensorRT could not parse or build a graph; its own words are in the message."""


class PrecisionError(ExportError):
    """No way of lowering the precision keeps an engine within its limit."""
