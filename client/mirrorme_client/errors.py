"""What can go wrong for a client, named by what the caller can do about it.

Errors of the server are decoded from their gRPC status and its `google.rpc` details.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import grpc
from google.protobuf import duration_pb2
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2

from mirrorme_client.final_status import Status

_DETAILS_KEY = "grpc-status-details-bin"


@dataclass(frozen=True)
class FieldViolation:
    """One field of a request that the server refused."""

    field: str
    """Path from the message sent, for example `config.portrait.image`."""
    description: str


class AnimationError(Exception):
    """Base of all errors of this package.

    The attributes are empty where the server, or this client, did not say.
    """

    retryable: bool = False
    """True: the same call may succeed later, after `retry_delay_s` if that is given."""

    def __init__(
        self,
        message: str,
        *,
        code: grpc.StatusCode | None = None,
        reason: str = "",
        violations: Sequence[FieldViolation] = (),
        retry_delay_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        """gRPC status; None where no server was involved."""
        self.reason = reason
        """Stable name of the case, from google.rpc.ErrorInfo."""
        self.violations = tuple(violations)
        self.retry_delay_s = retry_delay_s
        self.retryable = self.retryable or retry_delay_s is not None

    def __str__(self) -> str:
        lines = [self.message]
        for violation in self.violations:
            if violation.description not in self.message:
                lines.append(f"  {violation.field}: {violation.description}")
            elif violation.field not in self.message:
                lines.append(f"  at {violation.field}")
        if self.retry_delay_s is not None:
            lines.append(f"Try again in {self.retry_delay_s:.3g} s.")
        return "\n".join(lines)


class InvalidRequest(AnimationError):
    """The request is at fault: change it."""


class NotFound(AnimationError):
    """What the request names is not, or no longer, there: register the portrait again."""


class NotServed(AnimationError):
    """This server does not serve what was asked for: leave it out, or ask another server."""


class NotAllowed(AnimationError):
    """Credentials or consent are missing or do not suffice."""


class LimitExceeded(AnimationError):
    """A bound of the server was reached; see `AnimationClient.capabilities().limits`."""


class AtCapacity(LimitExceeded):
    """The server is full: try again later, or another server."""

    retryable = True


class ServerUnavailable(AnimationError):
    """No server was reached, or the connection was lost."""

    retryable = True


class TimedOut(AnimationError):
    """The server did not answer in time."""

    retryable = True


class ServerFault(AnimationError):
    """The server failed, or broke the contract."""


class SessionClosed(AnimationError):
    """Something was sent after `finish()` or after the session's end."""


class SessionStalled(AnimationError):
    """Sending waits because the session's frames are not read: read them in parallel."""


class UnreadableInput(AnimationError):
    """A file given to the client is missing, damaged, or of the wrong kind."""


class UnwritableOutput(AnimationError):
    """The output cannot be written."""


_KINDS: dict[grpc.StatusCode, type[AnimationError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequest,
    grpc.StatusCode.FAILED_PRECONDITION: InvalidRequest,
    grpc.StatusCode.OUT_OF_RANGE: InvalidRequest,
    grpc.StatusCode.ALREADY_EXISTS: InvalidRequest,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.UNIMPLEMENTED: NotServed,
    grpc.StatusCode.UNAUTHENTICATED: NotAllowed,
    grpc.StatusCode.PERMISSION_DENIED: NotAllowed,
    grpc.StatusCode.RESOURCE_EXHAUSTED: LimitExceeded,
    grpc.StatusCode.UNAVAILABLE: ServerUnavailable,
    # What gRPC ends calls with that reach a server while it closes its port (grpc/grpc#41785).
    grpc.StatusCode.CANCELLED: ServerUnavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: TimedOut,
}

# What it means when gRPC itself, not the service, gave the status: its own words help nobody.
_BY_GRPC: dict[type[AnimationError], str] = {
    ServerUnavailable: "the connection to the server was lost",
    TimedOut: "the server did not answer in time",
    LimitExceeded: "a message is larger than the receiver takes, or the server is overloaded",
}


def from_status(status: Status) -> AnimationError:
    """Decodes how a call failed. Codes without a kind of their own are ServerFault."""
    reason = ""
    violations: list[FieldViolation] = []
    retry_delay_s: float | None = None
    for detail in _details(status):
        match detail:
            case error_details_pb2.ErrorInfo():
                reason = detail.reason
            case error_details_pb2.BadRequest():
                violations += [
                    FieldViolation(violation.field, violation.description)
                    for violation in detail.field_violations
                ]
            case error_details_pb2.RetryInfo():
                retry_delay_s = _seconds(detail.retry_delay)
    kind = _KINDS.get(status.code, ServerFault)
    if kind is ServerFault and not reason and "RST_STREAM" in status.details:
        # A proxy resets the stream when the server behind it dies.
        kind = ServerUnavailable
    if kind is LimitExceeded and retry_delay_s is not None:
        kind = AtCapacity
    message = status.details or f"the server gave no message ({status.code.name})"
    if not reason and kind in _BY_GRPC:
        message = f"{_BY_GRPC[kind]} ({message})"
    return kind(
        message,
        code=status.code,
        reason=reason,
        violations=violations,
        retry_delay_s=retry_delay_s,
    )


def _details(status: Status) -> list[Message]:
    """The details of the kinds that this client reads; none where they are malformed."""
    known = (error_details_pb2.ErrorInfo, error_details_pb2.BadRequest, error_details_pb2.RetryInfo)
    details: list[Message] = []
    for key, value in status.trailing_metadata:
        if key != _DETAILS_KEY or not isinstance(value, bytes):
            continue
        try:
            for packed in status_pb2.Status.FromString(value).details:
                for kind in known:
                    detail = kind()
                    if packed.Unpack(detail):
                        details.append(detail)
        except DecodeError:
            continue
    return details


def _seconds(duration: duration_pb2.Duration) -> float:
    return duration.seconds + duration.nanos / 1e9
