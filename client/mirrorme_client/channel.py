"""The gRPC channel of a client: the options that live video needs."""

from __future__ import annotations

import json

import grpc.aio

from mirrorme_client.credentials import Credentials
from mirrorme_client.errors import AnimationError, NotAllowed, ServerUnavailable

_SERVICE = "mirrorme.animate.v1.AnimationService"

MAX_RESPONSE_BYTES = 64 * 1024 * 1024
"""Most that one response may hold. gRPC's default of 4 MiB refuses a large raw frame."""

_RECEIVE_WINDOW_BYTES = 256 * 1024
_KEEPALIVE_INTERVAL_MS = 25_000
_KEEPALIVE_TIMEOUT_MS = 10_000

# What gRPC says when TLS fails, and what to do. A server closes the socket on a client whose
# certificate it misses or does not trust.
_TLS_FAULTS = (
    ("CERTIFICATE_VERIFY_FAILED", "the server's certificate is not one that this client trusts"),
    ("Hostname Verification Check failed", "the server's certificate is for another name"),
    ("Socket closed", "the server asks for a client's certificate, or does not trust this one"),
)
_LAST_TRY_S = 2.0

# Both are idempotent, so asking again after a lost connection is safe. StreamAnimate is not.
_RETRIED_METHODS = ("RegisterPortrait", "GetCapabilities")


def channel_options() -> list[tuple[str, int | str]]:
    """Options for `grpc.aio.insecure_channel` and `secure_channel`."""
    retry = {
        "name": [{"service": _SERVICE, "method": method} for method in _RETRIED_METHODS],
        "retryPolicy": {
            "maxAttempts": 4,
            "initialBackoff": "0.2s",
            "maxBackoff": "2s",
            "backoffMultiplier": 2,
            "retryableStatusCodes": ["UNAVAILABLE"],
        },
    }
    return [
        ("grpc.max_receive_message_length", MAX_RESPONSE_BYTES),
        ("grpc.max_send_message_length", -1),
        # The receiver's window bounds how much video waits in the transport: with the default
        # bandwidth probe it grows to 4 MB, which is seconds of stale frames.
        ("grpc.http2.bdp_probe", 0),
        ("grpc.http2.lookahead_bytes", _RECEIVE_WINDOW_BYTES),
        # A dead peer is noticed within 35 s, in silence too.
        ("grpc.keepalive_time_ms", _KEEPALIVE_INTERVAL_MS),
        ("grpc.keepalive_timeout_ms", _KEEPALIVE_TIMEOUT_MS),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.max_reconnect_backoff_ms", 2_000),
        ("grpc.service_config", json.dumps({"methodConfig": [retry]})),
    ]


def open_channel(target: str, credentials: Credentials) -> grpc.aio.Channel:
    """A channel, with TLS or in plaintext. Nothing is sent before its first use.

    Raises:
        UnreadableInput: a file of the credentials cannot be read.
    """
    secure = credentials.to_channel_credentials()
    if secure is None:
        return grpc.aio.insecure_channel(target, options=channel_options())
    return grpc.aio.secure_channel(target, secure, options=channel_options())


async def connection_error(
    channel: grpc.aio.Channel, target: str, credentials: Credentials, tried_s: float
) -> AnimationError:
    """Why a channel did not get ready within `tried_s`."""
    if credentials.speaks_tls:
        words = await _last_words(channel)
        for sign, meaning in _TLS_FAULTS:
            if sign in words:
                return NotAllowed(f"no connection to {target}: {meaning}")
    return ServerUnavailable(
        f"no MirrorMe server answers at {target} (tried for {tried_s:g} s): is it running, and is "
        f"the address right? This client speaks {'TLS' if credentials.speaks_tls else 'plaintext'}"
    )


async def _last_words(channel: grpc.aio.Channel) -> str:
    """How gRPC says that it cannot connect."""
    try:
        await channel.unary_unary(f"/{_SERVICE}/GetCapabilities")(b"", timeout=_LAST_TRY_S)
    except grpc.aio.AioRpcError as error:
        return error.details() or ""
    return ""
