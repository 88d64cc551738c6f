"""What can go wrong in the gateway, named by what the caller can do about it.

Every error knows its gRPC status and its `google.rpc` details. Engines have their own family
(`mirrorme_engines.errors`); `from_engine` translates. Nothing here logs or talks to gRPC contexts.
"""

from __future__ import annotations

import re

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from mirrorme_engines.errors import (
    EngineError,
    EngineOverloaded,
    EngineTimeout,
    EngineUnavailable,
    InvalidTensor,
)

DOMAIN = "mirrorme.animate"

# A status and its details travel in HTTP/2 trailers, of which peers accept 8 KB.
_MAX_MESSAGE_BYTES = 600
_MAX_METADATA_BYTES = 200
_REASON = re.compile(r"[A-Z][A-Z0-9_]{1,61}[A-Z0-9]")


class AnimationError(Exception):
    """Base of all errors that a caller sees.

    Args:
        reason: stable, UPPER_SNAKE_CASE; programs act on it and it never changes its meaning.
        message: for people: what was got, what is expected, what to do.
        field: path of the field at fault in the request, for example `config.audio_format`.
        got, expected: the same as in the message, short, for programs.
        retry_after_s: when trying again can help; None: it cannot, or it is not known when.
    """

    status_code: grpc.StatusCode = grpc.StatusCode.UNKNOWN
    retryable: bool = False
    """Whether the same request may succeed later."""

    def __init__(
        self,
        reason: str,
        message: str,
        *,
        field: str | None = None,
        got: object = None,
        expected: object = None,
        retry_after_s: float | None = None,
    ) -> None:
        assert _REASON.fullmatch(reason), f"not a reason: {reason!r}"
        super().__init__(message)
        self.reason = reason
        self.message = _shortened(message, _MAX_MESSAGE_BYTES)
        self.field = field
        self.got = None if got is None else _shortened(str(got), _MAX_METADATA_BYTES)
        self.expected = None if expected is None else _shortened(str(expected), _MAX_METADATA_BYTES)
        self.retry_after_s = retry_after_s

    def to_status(self) -> status_pb2.Status:
        """The `google.rpc.Status`: ErrorInfo always, BadRequest with a field, RetryInfo if set."""
        metadata = {"field": self.field, "got": self.got, "expected": self.expected}
        details: list[Message] = [
            error_details_pb2.ErrorInfo(
                reason=self.reason,
                domain=DOMAIN,
                metadata={key: value for key, value in metadata.items() if value is not None},
            )
        ]
        if self.field is not None:
            violation = error_details_pb2.BadRequest.FieldViolation(
                field=self.field, description=self.message, reason=self.reason
            )
            details.append(error_details_pb2.BadRequest(field_violations=[violation]))
        if self.retry_after_s is not None:
            delay = duration_pb2.Duration()
            delay.FromMilliseconds(round(1000 * self.retry_after_s))
            details.append(error_details_pb2.RetryInfo(retry_delay=delay))
        return status_pb2.Status(
            code=self.status_code.value[0],
            message=self.message,
            details=[_packed(detail) for detail in details],
        )


class InvalidRequest(AnimationError):
    """The request is wrong whatever the state of the server. The caller mends it."""

    status_code = grpc.StatusCode.INVALID_ARGUMENT


class OutOfRange(AnimationError):
    """The request reaches past what the session holds or may hold: a time gone by, a length."""

    status_code = grpc.StatusCode.OUT_OF_RANGE


class FailedPrecondition(AnimationError):
    """Right by itself, but not in this state: wrong order of messages, wrong model."""

    status_code = grpc.StatusCode.FAILED_PRECONDITION


class NotFound(AnimationError):
    """What the request names is not here, or not any more. The caller sends it again."""

    status_code = grpc.StatusCode.NOT_FOUND


class Unauthenticated(AnimationError):
    """The caller has not shown who it is: its token is missing, wrong or expired."""

    status_code = grpc.StatusCode.UNAUTHENTICATED


class SessionTaken(AnimationError):
    """Another stream goes on with the session; this one ends."""

    status_code = grpc.StatusCode.ABORTED


class PermissionDenied(AnimationError):
    """The caller may not do this: a proof is missing or does not fit."""

    status_code = grpc.StatusCode.PERMISSION_DENIED


class NotServed(AnimationError):
    """Part of the contract that this server does not serve."""

    status_code = grpc.StatusCode.UNIMPLEMENTED

    def __init__(self, field: str, message: str | None = None) -> None:
        super().__init__(
            "FIELD_NOT_SERVED",
            message or f"{field} is not served by this server: leave it out",
            field=field,
            expected="unset",
        )


class AtCapacity(AnimationError):
    """All places are taken. The caller waits, or goes to another server."""

    status_code = grpc.StatusCode.RESOURCE_EXHAUSTED
    retryable = True


class TimedOut(AnimationError):
    """The caller was silent, or did not read, for longer than is allowed."""

    status_code = grpc.StatusCode.DEADLINE_EXCEEDED


class ServerUnavailable(AnimationError):
    """The server starts, drains or has lost its engines. The caller goes to another server."""

    status_code = grpc.StatusCode.UNAVAILABLE
    retryable = True


class InternalFault(AnimationError):
    """A fault of the server's own. The caller reports it."""

    status_code = grpc.StatusCode.INTERNAL


class EngineTrouble(AnimationError):
    """An engine failed: UNAVAILABLE when the same call may succeed later, else INTERNAL."""

    def __init__(
        self,
        reason: str,
        message: str,
        *,
        retryable: bool,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(reason, message, retry_after_s=retry_after_s)
        self.retryable = retryable
        self.status_code = grpc.StatusCode.UNAVAILABLE if retryable else grpc.StatusCode.INTERNAL


def from_engine(error: EngineError) -> AnimationError:
    """What a caller is told when an engine raised `error`. Use with `raise ... from error`."""
    match error:
        case EngineOverloaded():
            message = f"the engines have no room: {error}; try again, or another server"
            return AtCapacity("ENGINE_OVERLOADED", message, retry_after_s=1.0)
        case EngineTimeout():
            message = f"an engine did not answer in time: {error}"
            return EngineTrouble("ENGINE_TIMEOUT", message, retryable=True, retry_after_s=1.0)
        case EngineUnavailable():
            message = f"an engine is out of reach: {error}"
            return EngineTrouble("ENGINE_UNAVAILABLE", message, retryable=True, retry_after_s=1.0)
        case InvalidTensor():
            message = f"the gateway called an engine wrongly: {error}"
            return EngineTrouble("ENGINE_CALL_INVALID", message, retryable=False)
        case _:
            message = f"an engine failed: {error}"
            return EngineTrouble("ENGINE_FAULT", message, retryable=error.retryable)


def _packed(detail: Message) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(detail)
    return packed


def _shortened(text: str, max_bytes: int) -> str:
    """The text in at most `max_bytes` of UTF-8, without line breaks and control characters."""
    text = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    encoded = text.encode("utf-8", "replace")
    if len(encoded) <= max_bytes:
        return text
    return encoded[: max_bytes - 3].decode("utf-8", "ignore") + "..."
