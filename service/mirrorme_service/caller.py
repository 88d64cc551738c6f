"""Who calls an RPC, as the checks before it found out: a name for logs, and limits of its own."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from urllib.parse import unquote


@dataclass(frozen=True)
class Caller:
    """The holder of a token or a certificate."""

    name: str
    max_sessions: int | None = None
    """Sessions at once. None: what the server allows anybody."""
    max_requests_per_s: float | None = None
    """Of one session. None: what the server allows anybody."""


ANYBODY = Caller("anybody")
"""Calls of a server that asks for no proof."""

_caller: ContextVar[Caller] = ContextVar("caller", default=ANYBODY)


def current_caller() -> Caller:
    """Who made the RPC that this task serves."""
    return _caller.get()


def set_caller(caller: Caller) -> None:
    """Says who made the RPC that this task serves. Called once, before its handler."""
    _caller.set(caller)


def certified_caller(certificate: str) -> Caller:
    """Who made the RPC that this task serves: by token, else by the name of the certificate."""
    caller = current_caller()
    return Caller(certificate) if caller is ANYBODY else caller


def addressed_caller(peer: str, max_sessions: int) -> Caller:
    """Who made the RPC that this task serves: by token, else by address, if that is limited.

    Args:
        peer: gRPC's words for where the call comes from.
        max_sessions: of an address; 0: no limit.
    """
    caller = current_caller()
    if caller is not ANYBODY or not max_sessions:
        return caller
    return Caller(_address(peer), max_sessions)


def _address(peer: str) -> str:
    """An IPv6 address stands for its network of 64 bits, which is what one customer gets."""
    kind, _, rest = peer.partition(":")
    if kind not in ("ipv4", "ipv6"):
        return peer
    host = unquote(rest).rpartition(":")[0].strip("[]").partition("%")[0]
    try:
        address = ip_address(host)
    except ValueError:
        return peer
    if address.version == 6:
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ip_network((address, 64), strict=False))
    return str(address)
