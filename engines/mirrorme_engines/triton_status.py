"""What a failed call to Triton says about the server and the call."""

from __future__ import annotations

from enum import Enum

import grpc

from mirrorme_engines.errors import (
    EngineError,
    EngineFault,
    EngineOverloaded,
    EngineTimeout,
    EngineUnavailable,
)


class Verdict(Enum):
    """What follows from a failed attempt."""

    UNREACHABLE = "unreachable"
    """The server is gone, ending, or lost the model: it must pass a probe before it gets calls."""
    TIMEOUT = "timeout"
    """The attempt's time ran out while the server held the call: as UNREACHABLE."""
    OVERLOADED = "overloaded"
    """The server refused the call and is well: another server may have room."""
    EXPIRED = "expired"
    """The call waited in the server's queue for as long as it may; it was not run."""
    FAULT = "fault"
    """The model failed: the call's values or the server's hardware; one other server decides."""


# Triton reports a full or expired queue, and a dead Python process, only in words.
_QUEUE_FULL = "Exceeds maximum queue size"
_QUEUE_EXPIRED = "Request timeout expired"
_BROKEN = ("Stub process", "stub process", "Shared memory", "shm")
_REGION_UNKNOWN = "Unable to find shared memory region"


def is_answer(error: grpc.aio.AioRpcError) -> bool:
    """Whether the server itself ended the call: it uses the call's memory no more."""
    return error.code() not in (
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.CANCELLED,
    ) or any(words in (error.details() or "") for words in (_QUEUE_FULL, _QUEUE_EXPIRED))


def is_region_unknown(error: grpc.aio.AioRpcError) -> bool:
    """Whether the server does not know the region that the call's tensors are in."""
    return _REGION_UNKNOWN in (error.details() or "")


def judge(error: grpc.aio.AioRpcError) -> Verdict:
    """Reads a status as Triton means it."""
    details = error.details() or ""
    match error.code():
        case grpc.StatusCode.UNAVAILABLE if _QUEUE_FULL in details:
            return Verdict.OVERLOADED
        case grpc.StatusCode.UNAVAILABLE if _QUEUE_EXPIRED in details:
            return Verdict.EXPIRED
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            return Verdict.OVERLOADED
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return Verdict.TIMEOUT
        case (
            grpc.StatusCode.UNAVAILABLE
            | grpc.StatusCode.CANCELLED
            | grpc.StatusCode.NOT_FOUND
            | grpc.StatusCode.UNIMPLEMENTED
        ):
            return Verdict.UNREACHABLE
        case grpc.StatusCode.INTERNAL if any(words in details for words in _BROKEN):
            return Verdict.UNREACHABLE
    return Verdict.FAULT


def as_engine_error(error: grpc.aio.AioRpcError, engine: str, address: str) -> EngineError:
    """The error that the last attempt of a call ends with."""
    said = f"{engine}: Triton at {address}: {error.code().name}: {error.details()}"
    match judge(error):
        case Verdict.UNREACHABLE:
            return EngineUnavailable(said)
        case Verdict.TIMEOUT | Verdict.EXPIRED:
            return EngineTimeout(said)
        case Verdict.OVERLOADED:
            return EngineOverloaded(said)
        case Verdict.FAULT:
            return EngineFault(said)
