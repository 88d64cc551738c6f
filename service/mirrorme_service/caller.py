"""Who calls an RPC, as the checks before it found out: a name for logs, and limits of its own."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True)
class Caller:
    """The holder of a token or a certificate."""

    name: str
    max_sessions: int | None = None
    """Sessions at once. None: what the server allows anybody."""
    max_requests_per_s: float | None = None
    """Of one session. None: what the server allows anybody."""


ANYBODY = Caller("anybody")
"""Calls of a server that asks for no proof."""

_caller: ContextVar[Caller] = ContextVar("caller", default=ANYBODY)


def current_caller() -> Caller:
    """Who made the RPC that this task serves."""
    return _caller.get()


def set_caller(caller: Caller) -> None:
    """Says who made the RPC that this task serves. Called once, before its handler."""
    _caller.set(caller)
