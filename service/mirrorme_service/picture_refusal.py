"""What is wrong with a picture file, in words for whoever sent it. Knows nothing of requests."""

from __future__ import annotations


class PictureRefused(Exception):
    """A file that is not taken as a portrait. Its sender mends it.

    Args:
        reason: stable, UPPER_SNAKE_CASE.
        message: what was got, what is expected, what to do.
        got, expected: the same, short, for programs; empty: nothing to say.
    """

    def __init__(self, reason: str, message: str, *, got: str = "", expected: str = "") -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.got = got
        self.expected = expected
