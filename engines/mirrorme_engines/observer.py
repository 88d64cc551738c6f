"""What an engine tells of its calls, so that a gateway can export metrics of its own kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from mirrorme_engines.errors import (
    EngineFault,
    EngineOverloaded,
    EngineTimeout,
    InvalidTensor,
)
from mirrorme_engines.manifest import Role

Outcome = Literal["ok", "invalid", "fault", "overloaded", "timeout", "unavailable", "cancelled"]


@dataclass(frozen=True)
class CallRecord:
    """One call of `infer`, however it ended."""

    engine: str
    role: Role
    outcome: Outcome
    total_s: float
    """From the call to its end, queueing included."""
    queue_s: float
    """Of that, before the run that answered it began; all of it when it was never run."""
    num_waiting: int
    """Calls still queued when this one ended."""


@dataclass(frozen=True)
class BatchRecord:
    """One run of an engine, for one call or several joined ones."""

    engine: str
    role: Role
    batch_size: int
    num_calls: int
    run_s: float
    cpu_s: float
    """CPU time that it took on all threads of the engine; 0 where it failed."""
    failed: bool
    """True: the run ended with an error; joined calls are then run again one by one."""


AttemptOutcome = Literal["ok", "unreachable", "timeout", "overloaded", "expired", "fault"]


class EngineObserver(Protocol):
    """Is called on the event loop, after each call and each run; must be quick and not raise."""

    def call_ended(self, record: CallRecord) -> None:
        """A call of `infer` returned or raised."""
        ...

    def batch_ended(self, record: BatchRecord) -> None:
        """A run returned or raised."""
        ...

    def attempt_ended(self, endpoint: str, outcome: AttemptOutcome) -> None:
        """A server answered an attempt of a call, or failed to."""
        ...

    def server_admitted(self, endpoint: str) -> None:
        """A server gets calls from now on."""
        ...

    def server_ejected(self, endpoint: str) -> None:
        """A server gets no calls until it was found well."""
        ...

    def server_gone(self, endpoint: str) -> None:
        """An address is not a server's any more."""
        ...


class SilentObserver:
    """Observes nothing."""

    def call_ended(self, record: CallRecord) -> None:
        """Does nothing."""

    def batch_ended(self, record: BatchRecord) -> None:
        """Does nothing."""

    def attempt_ended(self, endpoint: str, outcome: AttemptOutcome) -> None:
        """Does nothing."""

    def server_admitted(self, endpoint: str) -> None:
        """Does nothing."""

    def server_ejected(self, endpoint: str) -> None:
        """Does nothing."""

    def server_gone(self, endpoint: str) -> None:
        """Does nothing."""


def outcome_of(error: BaseException) -> Outcome:
    """The word for how a call failed."""
    match error:
        case InvalidTensor():
            return "invalid"
        case EngineFault():
            return "fault"
        case EngineOverloaded():
            return "overloaded"
        case EngineTimeout():
            return "timeout"
        case Exception():
            return "unavailable"
        case _:
            return "cancelled"
