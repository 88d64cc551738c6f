"""Settings of the Triton client."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TritonOptions:
    """Where Triton servers are, and how patient their client is."""

    endpoints: tuple[str, ...]
    """Each `host:port` (one server), or `dns:///name:port` (as many servers as the name has
    addresses; asked again every `resolve_interval_s`)."""
    default_timeout_s: float = 10.0
    """Of a call that names none."""
    start_timeout_s: float = 60.0
    """How long the start waits for the first server; then it waits for no others."""
    max_attempts: int = 4
    """Tries of one call, each on the least loaded server that has not failed it yet."""
    max_inflight_calls: int = 64
    """On one server; when all servers have as many, further calls are refused."""
    max_waiting_calls: int = 256
    """Calls that wait for a server to come back; further ones are refused."""
    probe_timeout_s: float = 2.0
    """Of the check that a server passes before it gets calls, at first and after each fault."""
    first_backoff_s: float = 0.1
    """Before the second probe in a row; doubles with each. The first comes at once."""
    max_backoff_s: float = 5.0
    resolve_interval_s: float = 5.0
    shared_memory_bytes: int = 256 << 20
    """Most memory shared with one server on this machine, which large tensors then go through
    instead of messages. A server that cannot open it gets messages. 0: none."""
    shared_memory_min_bytes: int = 256 << 10
    """Calls with smaller inputs and outputs together travel in messages."""

    def __post_init__(self) -> None:
        """Refuses values that cannot work."""
        if not self.endpoints:
            raise ValueError("endpoints is empty: want at least one, such as localhost:8001")
        for name in ("max_attempts", "max_inflight_calls", "max_waiting_calls"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: want at least 1")
        for name in (
            "default_timeout_s",
            "start_timeout_s",
            "probe_timeout_s",
            "first_backoff_s",
            "max_backoff_s",
            "resolve_interval_s",
        ):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}: want more than 0")
        for name in ("shared_memory_bytes", "shared_memory_min_bytes"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}: want 0 or more")
