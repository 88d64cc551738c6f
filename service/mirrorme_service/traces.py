"""Traces of sessions, as the rest of the gateway knows them. These here do nothing, and cost that.

`otel_traces` has those that are recorded; only it knows OpenTelemetry.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar

Metadata = Iterable[tuple[str, str | bytes]]

_NOTHING = nullcontext()


class SessionTrace:
    """The trace of one session."""

    def describe(self, **attributes: str | int) -> None:
        """Adds what became known of the session."""

    def stage(self, chunk: int, name: str) -> AbstractContextManager[None]:
        """A stage of a chunk, for as long as the context lasts."""
        return _NOTHING

    def end_chunk(self, chunk: int) -> None:
        """No stage of the chunk follows."""


class Traces:
    """Makes sessions' traces."""

    def session(self, session_id: str, metadata: Metadata) -> AbstractContextManager[SessionTrace]:
        """The trace of a session for as long as the context lasts, in tasks started inside too.

        Args:
            session_id: names it.
            metadata: of the call, which may name a trace to be part of.
        """
        return nullcontext(SessionTrace())

    def close(self) -> None:
        """Sends what is recorded and not sent yet. Blocks."""


_NO_TRACE = SessionTrace()
_trace: ContextVar[SessionTrace] = ContextVar("trace", default=_NO_TRACE)


def current_trace() -> SessionTrace:
    """Of the session that this task works for."""
    return _trace.get()


@contextmanager
def traced_session(trace: SessionTrace) -> Iterator[None]:
    """Makes a trace the current one."""
    token = _trace.set(trace)
    try:
        yield
    finally:
        _trace.reset(token)
