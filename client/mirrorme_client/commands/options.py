"""Options that several commands share, and words for the contract's enums."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from google.protobuf.json_format import MessageToJson
from google.protobuf.message import Message
from mirrorme.animate.v1 import animation_pb2 as pb

from mirrorme_client.client import DEFAULT_TARGET, AnimationClient
from mirrorme_client.credentials import Credentials

CROP_MODES = {
    "upper-body": pb.CROP_MODE_UPPER_BODY,
    "face": pb.CROP_MODE_FACE,
    "center": pb.CROP_MODE_CENTER,
    "pad": pb.CROP_MODE_PAD,
}
FRAME_ENCODINGS = {"h264": pb.FRAME_ENCODING_H264, "jpeg": pb.FRAME_ENCODING_JPEG}
PACINGS = {"fast": pb.PACING_AS_FAST_AS_POSSIBLE, "real-time": pb.PACING_REAL_TIME}

_Command = Callable[..., Any]


@dataclass(frozen=True)
class Connection:
    """Where a command's server is, and how it is reached."""

    server: str
    timeout_s: float
    credentials: Credentials

    def client(self) -> AnimationClient:
        """A client that is not connected yet."""
        return AnimationClient(
            self.server, credentials=self.credentials, connect_timeout_s=self.timeout_s
        )


def server_options(function: _Command) -> _Command:
    """`--server` and what goes with it; the command gets them as `connection`."""

    @functools.wraps(function)
    def with_connection(
        *args: Any,
        server: str,
        connect_timeout: float,
        tls: bool,
        ca: Path | None,
        client_certificate: Path | None,
        client_key: Path | None,
        token: str,
        token_file: Path | None,
        **others: Any,
    ) -> Any:
        if token_file is not None:
            token = token_file.read_text().strip()
        try:
            credentials = Credentials(token, tls, ca, client_certificate, client_key)
        except ValueError as error:
            raise click.UsageError(str(error)) from error
        connection = Connection(server, connect_timeout, credentials)
        return function(*args, connection=connection, **others)

    command = with_connection
    for option in reversed(_SERVER_OPTIONS):
        command = option(command)
    return command


def _server_option(name: str, text: str, **settings: Any) -> _Command:
    envvar = f"MIRRORME_{name.removeprefix('--').replace('-', '_').upper()}"
    return click.option(name, envvar=envvar, show_envvar=True, help=text, **settings)


_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_SERVER_OPTIONS = (
    _server_option(
        "--server",
        "Server to use.",
        metavar="HOST:PORT",
        default=DEFAULT_TARGET,
        show_default=True,
    ),
    click.option(
        "--connect-timeout",
        metavar="SECONDS",
        type=click.FloatRange(min=0, min_open=True),
        default=5.0,
        show_default=True,
        help="How long to try to reach it.",
    ),
    _server_option("--tls", "Speak TLS; the following options imply it.", is_flag=True),
    _server_option("--ca", "Authorities to trust, PEM. [default: the public ones]", type=_FILE),
    _server_option("--client-certificate", "Certificate of this client, PEM.", type=_FILE),
    _server_option("--client-key", "Its private key, PEM.", type=_FILE),
    _server_option(
        "--token",
        "Token of this client. Others on this machine see options: better set the variable.",
        default="",
    ),
    _server_option("--token-file", "File that holds the token.", type=_FILE),
)


def crop_option(function: _Command) -> _Command:
    """`--crop`."""
    option = click.option(
        "--crop",
        type=click.Choice(list(CROP_MODES)),
        help="How the picture is fitted to the frame. [default: upper-body]",
    )
    return option(function)


def consent_option(function: _Command) -> _Command:
    """`--consent-token`."""
    option = click.option(
        "--consent-token",
        default="",
        envvar="MIRRORME_CONSENT_TOKEN",
        show_envvar=True,
        help="Proof that the portrayed person agrees, where the server asks for one.",
    )
    return option(function)


def json_option(function: _Command) -> _Command:
    """`--json`."""
    option = click.option(
        "--json", "as_json", is_flag=True, help="Print one JSON object to standard output."
    )
    return option(function)


def crop_mode(crop: str | None) -> pb.CropMode:
    """The contract's value; unspecified where none is given."""
    return CROP_MODES[crop] if crop is not None else pb.CROP_MODE_UNSPECIFIED


def json_text(message: Message) -> str:
    """A message of the contract as JSON, with its own field names and its defaults."""
    return MessageToJson(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
