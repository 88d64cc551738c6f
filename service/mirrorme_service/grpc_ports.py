"""The gateway's gRPC ports: their options, who may call, TLS, and health in plaintext beside it."""

from __future__ import annotations

import grpc.aio
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from mirrorme.animate.v1 import animation_pb2

from mirrorme_service.auth_interceptor import AuthInterceptor
from mirrorme_service.authentication import Authenticator, JwtRule
from mirrorme_service.capacity import MAX_MEASURED_SESSIONS
from mirrorme_service.config import ServiceConfig
from mirrorme_service.jwt_keys import JwtKeys
from mirrorme_service.metrics import Metrics
from mirrorme_service.static_tokens import StaticTokens
from mirrorme_service.tls_credentials import open_tls

SERVICE_NAME = animation_pb2.DESCRIPTOR.services_by_name["AnimationService"].full_name
# Beyond the places for sessions: capabilities, portraits, health. Past that gRPC itself refuses.
_OTHER_RPCS = 64
# A second server on the same port is a mistake, not a way to share load.
_OWN_PORT = ("grpc.so_reuseport", 0)


class StartError(Exception):
    """The gateway cannot start; the message says what to do."""


def new_grpc_server(config: ServiceConfig, metrics: Metrics) -> grpc.aio.Server:
    """A server of the service's port, which admits whom the config says.

    Raises:
        StartError: what tokens are verified with cannot be read.
    """
    options = (
        ("grpc.max_receive_message_length", config.max_message_bytes),
        ("grpc.max_send_message_length", -1),
        # What waits in the transport is read before a command behind it: 8 s of audio, not minutes.
        ("grpc.http2.bdp_probe", 0),
        ("grpc.http2.lookahead_bytes", 256 * 1024),
        _OWN_PORT,
        # A client that vanished without a word is noticed within these.
        ("grpc.keepalive_time_ms", 20_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
        # Clients may ping as often as is sensible, also between streams.
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    )
    server = grpc.aio.server(
        options=options,
        interceptors=[AuthInterceptor(_new_authenticator(config), metrics)],
        maximum_concurrent_rpcs=(config.max_sessions or MAX_MEASURED_SESSIONS) + _OTHER_RPCS,
    )
    names = (SERVICE_NAME, health.SERVICE_NAME, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server)
    return server


def bind(server: grpc.aio.Server, config: ServiceConfig, metrics: Metrics) -> int:
    """Gives the server its port, with TLS if the config names certificates; returns its number.

    Raises:
        StartError
    """
    address = _address(config.host, config.port)
    try:
        if files := config.tls_files():
            return server.add_secure_port(address, open_tls(files, metrics.certificate_loaded))
        return server.add_insecure_port(address)
    except RuntimeError as error:
        raise StartError(
            f"cannot listen on {address}: is another server running there? Choose --port and --host"
        ) from error
    except (OSError, ValueError) as error:
        raise StartError(f"cannot speak TLS: {error}") from error


def new_health_server(
    config: ServiceConfig, servicer: health_pb2_grpc.HealthServicer
) -> tuple[grpc.aio.Server, int]:
    """A server of health alone, in plaintext, and its port: probes hold no certificates.

    Raises:
        StartError: the port is taken.
    """
    server = grpc.aio.server(options=(_OWN_PORT,))
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    address = _address(config.host, config.health_port)
    try:
        return server, server.add_insecure_port(address)
    except RuntimeError as error:
        raise StartError(f"cannot serve health on {address}: choose --health-port") from error


def _new_authenticator(config: ServiceConfig) -> Authenticator:
    try:
        tokens = StaticTokens(config.tokens) if config.tokens else None
        keys = JwtKeys(config.jwt_keys) if config.jwt_keys else None
    except (OSError, ValueError) as error:
        raise StartError(f"cannot verify tokens: {error}") from error
    rule = JwtRule(keys, config.jwt_audience, config.jwt_issuer) if keys else None
    return Authenticator(tokens, rule)


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
