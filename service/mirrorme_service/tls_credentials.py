"""TLS for the service's port, with certificates that are read again when their files change.

A new certificate serves new connections; those that are open stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from mirrorme_service.watched_files import WatchedFiles


@dataclass(frozen=True)
class TlsFiles:
    """Where certificates are, as PEM."""

    certificate: Path
    """The server's, and those between it and its authority."""
    key: Path
    client_ca: Path | None = None
    """Authorities of clients' certificates. Given: a client without one cannot connect."""

    @property
    def paths(self) -> list[Path]:
        """All of them."""
        return [self.certificate, self.key, *([self.client_ca] if self.client_ca else [])]


@dataclass(frozen=True)
class _Certificates:
    configuration: grpc.ServerCertificateConfiguration
    expiry: datetime


def open_tls(files: TlsFiles, on_load: Callable[[bool, datetime], None]) -> grpc.ServerCredentials:
    """Credentials for the life of a server.

    Args:
        files: looked at with each new connection.
        on_load: told of each change: whether it could be read, and when the certificate in use
            expires. Called from gRPC's threads.

    Raises:
        OSError, ValueError: a file cannot be read, or key and certificate do not fit.
    """
    expiries: list[datetime] = []

    def read() -> _Certificates:
        certificates = _read(files)
        expiries[:] = [certificates.expiry]
        return certificates

    watched = WatchedFiles(files.paths, read, lambda ok: on_load(ok, expiries[0]))
    on_load(True, expiries[0])
    return grpc.dynamic_ssl_server_credentials(
        watched.content().configuration,
        lambda: watched.content().configuration,
        require_client_authentication=files.client_ca is not None,
    )


def _read(files: TlsFiles) -> _Certificates:
    chain, key = files.certificate.read_bytes(), files.key.read_bytes()
    client_ca = files.client_ca.read_bytes() if files.client_ca is not None else None
    try:
        certificate = x509.load_pem_x509_certificates(chain)[0]
        private = load_pem_private_key(key, None)
        if client_ca is not None:
            x509.load_pem_x509_certificates(client_ca)
    except (ValueError, TypeError) as error:
        raise ValueError(f"no certificates and key as PEM: {error}") from error
    if private.public_key() != certificate.public_key():
        raise ValueError(f"the key in {files.key} is not that of {files.certificate}")
    return _Certificates(
        grpc.ssl_server_certificate_configuration([(key, chain)], root_certificates=client_ca),
        certificate.not_valid_after_utc,
    )
