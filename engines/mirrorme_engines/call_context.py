"""What travels with a call beside its tensors: the trace it belongs to."""

from __future__ import annotations

from contextvars import ContextVar

traceparent: ContextVar[str] = ContextVar("traceparent", default="")
"""W3C trace context of what calls an engine; empty: it is not traced."""


def call_metadata() -> tuple[tuple[str, str], ...] | None:
    """gRPC metadata of a call to a server; None: there is none to send."""
    parent = traceparent.get()
    return (("traceparent", parent),) if parent else None
