"""What a client shows to a server and trusts it by: token, certificates, authorities."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import grpc

from mirrorme_client.errors import UnreadableInput


@dataclass(frozen=True)
class Credentials:
    """How to connect. The default is a plaintext connection without a token.

    A token is never part of a message or of this object's text. Without TLS it travels readable:
    that is for a machine's own addresses, and for meshes that encrypt.
    """

    token: str = field(default="", repr=False)
    """Bearer token, sent with each call."""
    tls: bool = False
    """Speak TLS; also when any of the files is given."""
    ca: Path | None = None
    """Authorities to trust, PEM. None: those that gRPC brings along."""
    certificate: Path | None = None
    """The client's certificate chain, PEM, for mutual TLS; its `key` goes with it."""
    key: Path | None = None

    def __post_init__(self) -> None:
        """Refuses what cannot be sent."""
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key go together: give both or none")
        if not (self.token.isascii() and self.token.isprintable()) or " " in self.token:
            raise ValueError("the token holds characters that no token has")

    @property
    def speaks_tls(self) -> bool:
        """False: plaintext."""
        return self.tls or self.ca is not None or self.certificate is not None

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Sent with each call."""
        return (("authorization", f"Bearer {self.token}"),) if self.token else ()

    def to_channel_credentials(self) -> grpc.ChannelCredentials | None:
        """For a channel; None: plaintext.

        Raises:
            UnreadableInput: a file cannot be read.
        """
        if not self.speaks_tls:
            return None
        return grpc.ssl_channel_credentials(
            _content(self.ca), _content(self.key), _content(self.certificate)
        )


def _content(path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError as error:
        raise UnreadableInput(f"cannot read {path}: {error.strerror}") from error
