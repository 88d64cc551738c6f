"""The gRPC channel of a client: the options that live video needs."""

from __future__ import annotations

import json

import grpc.aio

_SERVICE = "mirrorme.animate.v1.AnimationService"

MAX_RESPONSE_BYTES = 64 * 1024 * 1024
"""Most that one response may hold. gRPC's default of 4 MiB refuses a large raw frame."""

_RECEIVE_WINDOW_BYTES = 256 * 1024
_KEEPALIVE_INTERVAL_MS = 25_000
_KEEPALIVE_TIMEOUT_MS = 10_000

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


def open_channel(target: str) -> grpc.aio.Channel:
    """A plaintext channel. Nothing is sent before its first use."""
    return grpc.aio.insecure_channel(target, options=channel_options())
