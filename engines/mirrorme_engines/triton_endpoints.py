"""Endpoints as people write them, and the server addresses that they stand for."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

DNS_SCHEME = "dns:///"

Resolve = Callable[[str, int], Awaitable[list[str]]]
"""Host and port to `address:port`; raises OSError when the name is not known."""


@dataclass(frozen=True)
class Endpoint:
    """One server, or a name for many."""

    host: str
    port: int
    many: bool
    """True: every address of the host is a server of its own."""

    @classmethod
    def parse(cls, text: str) -> Endpoint:
        """Reads `host:port`, `[address]:port` or `dns:///name:port`.

        Raises:
            ValueError: it is none of these.
        """
        many = text.startswith(DNS_SCHEME)
        host, colon, port = text.removeprefix(DNS_SCHEME).rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        if not (colon and host and port.isdecimal() and 0 < int(port) < 65536) or "/" in host:
            raise ValueError(f"endpoint {text!r}: want host:port or {DNS_SCHEME}name:port")
        return cls(host, int(port), many)

    async def addresses(self, resolve: Resolve) -> list[str]:
        """The servers' addresses, in order.

        Raises:
            OSError: the name cannot be resolved.
        """
        if self.many:
            return await resolve(self.host, self.port)
        return [join_address(self.host, self.port)]


async def resolve_addresses(host: str, port: int) -> list[str]:
    """Asks the system's resolver.

    A server with an IPv4 and an IPv6 address must not count twice, so IPv6 is used only where
    there is no IPv4.
    """
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    families = {family for family, *_ in found}
    family = socket.AF_INET if socket.AF_INET in families else socket.AF_INET6
    hosts = {str(address[0]) for kind, _, _, _, address in found if kind == family}
    return [join_address(address, port) for address in sorted(hosts)]


def join_address(host: str, port: int) -> str:
    """`host:port`, with brackets around IPv6."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
