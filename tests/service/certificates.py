"""Certificates of authorities of their own, for tests."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import grpc
import trustme

HOST = "127.0.0.1"


@dataclass(frozen=True)
class ServerFiles:
    """A server's certificate, its key, and the authority of its clients."""

    folder: Path

    @property
    def settings(self) -> dict[str, Any]:
        """The server's, for plain TLS."""
        return {
            "tls_certificate": self.folder / "tls.crt",
            "tls_key": self.folder / "tls.key",
        }

    @property
    def mutual_settings(self) -> dict[str, Any]:
        """The server's, for mutual TLS."""
        return {**self.settings, "tls_client_ca": self.folder / "ca.crt"}

    def write(self, ca: trustme.CA, client_ca: trustme.CA | None = None, **options: Any) -> None:
        """Puts a new certificate there."""
        leaf = ca.issue_cert(HOST, **options)
        (self.folder / "tls.key").write_bytes(leaf.private_key_pem.bytes())
        chain = b"".join(pem.bytes() for pem in leaf.cert_chain_pems)
        (self.folder / "tls.crt").write_bytes(chain)
        (self.folder / "ca.crt").write_bytes((client_ca or ca).cert_pem.bytes())


def client_credentials(
    ca: trustme.CA,
    client_ca: trustme.CA | None = None,
    name: str = "client@example.org",
    **options: Any,
) -> grpc.ChannelCredentials:
    """What a client trusts, and its certificate if it has one."""
    if client_ca is None:
        return grpc.ssl_channel_credentials(ca.cert_pem.bytes())
    leaf = client_ca.issue_cert(name, **options)
    chain = b"".join(pem.bytes() for pem in leaf.cert_chain_pems)
    return grpc.ssl_channel_credentials(ca.cert_pem.bytes(), leaf.private_key_pem.bytes(), chain)


LONG_AGO = {"not_before": datetime(2020, 1, 1), "not_after": datetime(2020, 2, 1)}
"""Of an expired certificate."""
