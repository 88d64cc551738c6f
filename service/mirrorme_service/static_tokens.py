"""Bearer tokens that a file lists by their hashes.

The file is TOML, a table a token; only hashes are in it, so that who reads the file cannot call:

    [[token]]
    name = "shop"                  # in logs
    sha256 = "9f86d08..."          # of the token, hexadecimal
    not_after = 2027-01-01         # optional: a date or a time
    max_sessions = 4               # optional: at once
    max_requests_per_s = 100       # optional: of one session
"""

from __future__ import annotations

import hashlib
import hmac
import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime, time
from pathlib import Path

from mirrorme_service.caller import Caller
from mirrorme_service.errors import Unauthenticated
from mirrorme_service.watched_files import WatchedFiles

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class _Entry:
    """One table of the file."""

    name: str
    sha256: str
    not_after: date | None = None
    max_sessions: int | None = None
    max_requests_per_s: float | None = None

    def __post_init__(self) -> None:
        _check(isinstance(self.name, str) and self.name.isprintable() and self.name, "name", "text")
        is_hash = isinstance(self.sha256, str) and _SHA256.fullmatch(self.sha256)
        _check(is_hash, "sha256", "64 hexadecimal digits in lower case")
        _check(self.not_after is None or isinstance(self.not_after, date), "not_after", "a date")
        for name, kind in (("max_sessions", int), ("max_requests_per_s", int | float)):
            value = getattr(self, name)
            _check(value is None or (isinstance(value, kind) and value > 0), name, "more than 0")

    def is_over(self, now: datetime) -> bool:
        if self.not_after is None:
            return False
        end = self.not_after
        if not isinstance(end, datetime):
            end = datetime.combine(end, time.max)
        return now > (end if end.tzinfo else end.replace(tzinfo=UTC))


class StaticTokens:
    """The tokens of one file, which is read again when it changes."""

    def __init__(
        self, path: Path, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        """
        Raises:
            OSError, ValueError: the file cannot be read, or is not right.
        """
        self._entries = WatchedFiles([path], lambda: _read(path))
        self._clock = clock

    def find(self, token: str) -> Caller | None:
        """Whose token it is; None: nobody's.

        Raises:
            Unauthenticated: TOKEN_EXPIRED
        """
        digest = hashlib.sha256(token.encode()).hexdigest()
        found = None
        # All are compared, each in constant time: how long it takes says nothing of the tokens.
        for entry in self._entries.content():
            if hmac.compare_digest(entry.sha256, digest):
                found = entry
        if found is None:
            return None
        if found.is_over(self._clock()):
            message = "the token has expired: ask for another one"
            raise Unauthenticated("TOKEN_EXPIRED", message)
        return Caller(found.name, found.max_sessions, found.max_requests_per_s)


def _read(path: Path) -> tuple[_Entry, ...]:
    try:
        document = tomllib.loads(path.read_text())
        tables = document.pop("token", [])
        _check(not document, ", ".join(document), "only tables [[token]]")
        known = {field.name for field in fields(_Entry)}
        for table in tables:
            unknown = set(table) - known
            _check(not unknown, ", ".join(unknown), f"only {', '.join(sorted(known))}")
        return tuple(_Entry(**table) for table in tables)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is no file of tokens: {error}") from error


def _check(holds: object, name: str, wanted: str) -> None:
    if not holds:
        raise ValueError(f"{name}: want {wanted}")
