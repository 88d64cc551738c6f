"""Options that several commands share, and words for the contract's enums."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click
from google.protobuf.json_format import MessageToJson
from google.protobuf.message import Message
from mirrorme.animate.v1 import animation_pb2 as pb

from mirrorme_client.client import DEFAULT_TARGET

CROP_MODES = {
    "upper-body": pb.CROP_MODE_UPPER_BODY,
    "face": pb.CROP_MODE_FACE,
    "center": pb.CROP_MODE_CENTER,
    "pad": pb.CROP_MODE_PAD,
}
FRAME_ENCODINGS = {"h264": pb.FRAME_ENCODING_H264, "jpeg": pb.FRAME_ENCODING_JPEG}
PACINGS = {"fast": pb.PACING_AS_FAST_AS_POSSIBLE, "real-time": pb.PACING_REAL_TIME}

_Command = Callable[..., Any]


def server_options(function: _Command) -> _Command:
    """`--server` and `--connect-timeout`."""
    server = click.option(
        "--server",
        metavar="HOST:PORT",
        default=DEFAULT_TARGET,
        show_default=True,
        envvar="MIRRORME_SERVER",
        show_envvar=True,
        help="Server to use.",
    )
    timeout = click.option(
        "--connect-timeout",
        metavar="SECONDS",
        type=click.FloatRange(min=0, min_open=True),
        default=5.0,
        show_default=True,
        help="How long to try to reach it.",
    )
    return server(timeout(function))


def crop_option(function: _Command) -> _Command:
    """`--crop`."""
    option = click.option(
        "--crop",
        type=click.Choice(list(CROP_MODES)),
        help="How the picture is fitted to the frame. [default: upper-body]",
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
