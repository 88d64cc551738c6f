"""How the gateway logs: text for people or JSON for machines, with the session's id on every line.

Audio, pictures and tokens are never logged.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal

from pythonjsonlogger.json import JsonFormatter

LogFormat = Literal["text", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]

_session: ContextVar[dict[str, str] | None] = ContextVar("session", default=None)


@contextmanager
def logged_session(session_id: str) -> Iterator[None]:
    """Puts the session's id on every line logged inside, in tasks started inside too."""
    token = _session.set({"session_id": session_id})
    try:
        yield
    finally:
        _session.reset(token)


def log_about_session(**fields: str) -> None:
    """Puts what became known of the session on its further lines, in JSON."""
    if (session := _session.get()) is not None:
        session.update({name: value for name, value in fields.items() if value})


def start_logging(log_format: LogFormat, level: LogLevel) -> None:
    """Sends all logging of this process to standard error. Called once, by the program."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_add_session)
    if log_format == "json":
        fields = ("asctime", "levelname", "name", "session_id", "message")
        renamed = {"asctime": "time", "levelname": "level", "name": "logger"}
        handler.setFormatter(JsonFormatter(list(fields), rename_fields=renamed))
    else:
        line = "%(asctime)s %(levelname)-7s %(name)s [%(session_id)s] %(message)s"
        handler.setFormatter(logging.Formatter(line))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # At debug it logs what is written in a picture's EXIF: names, places.
    logging.getLogger("PIL").setLevel(max(root.level, logging.INFO))


def _add_session(record: logging.LogRecord) -> bool:
    record.session_id = "-"
    record.__dict__.update(_session.get() or {})
    return True
