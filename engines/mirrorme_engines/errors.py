"""What can go wrong with engines, named by what the caller can do about it."""

from __future__ import annotations


class EngineError(Exception):
    """Base of all engine errors. `retryable` says whether the same call may succeed later."""

    retryable = False


class ManifestError(EngineError):
    """The manifest is missing, malformed, or does not describe the engines beside it."""


class InvalidTensor(EngineError):
    """A call's tensors do not fit the engine's contract. The caller's mistake; nothing was run."""


class EngineFault(EngineError):
    """The engine ran and failed, or returned values that are not numbers."""


class EngineOverloaded(EngineError):
    """The engine's queue is full. Nothing was run."""

    retryable = True


class EngineTimeout(EngineError):
    """The call's deadline passed before a result was there."""

    retryable = True


class EngineUnavailable(EngineError):
    """The engine is closed or out of reach."""

    retryable = True
