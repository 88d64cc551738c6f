"""The gateway's settings, validated. Nothing here reads the environment or arguments: `main` does.

The text beside each type is what `--help` and the documentation show.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, get_args

from mirrorme_engines.batcher import BatchOptions
from mirrorme_engines.engine_options import Device, EngineOptions, Platform
from mirrorme_engines.triton_options import TritonOptions

from mirrorme_service.log_format import LogFormat, LogLevel
from mirrorme_service.tls_credentials import TlsFiles

ENVIRONMENT_PREFIX = "MIRRORME"
# What a request holds beside the portrait's bytes.
_MESSAGE_MARGIN_BYTES = 64 << 10


class ConfigError(ValueError):
    """A setting that cannot be. Names the setting, what was got and what is wanted."""


@dataclass(frozen=True)
class ServiceConfig:
    """All settings of one gateway process."""

    engines: Annotated[Path, "Folder of the exported engines."] = Path("engines/repository/demo")
    platform: Annotated[Platform, "What runs the engines."] = "onnxruntime"
    device: Annotated[Device, "Where in-process engines run."] = "cpu"
    threads: Annotated[
        int, "CPU threads of one in-process engine, 1 for the audio encoder; they run side by side."
    ] = 2
    triton_endpoints: Annotated[
        str, "Triton servers, host:port or dns:///name:port, separated by commas."
    ] = "localhost:8001"
    triton_shared_memory_bytes: Annotated[
        int, "Memory shared with one Triton server on this machine, where it allows that. 0: none."
    ] = 256 << 20

    host: Annotated[str, "Address to listen on; 0.0.0.0 for all."] = "127.0.0.1"
    port: Annotated[int, "Port of the service. 0: any free one."] = 50051
    metrics_port: Annotated[
        int, "HTTP port of /metrics, for Prometheus, /ready and /live. 0: any free one."
    ] = 9464

    health_port: Annotated[
        int, "Port of grpc.health.v1 in plaintext, for probes. 0: any free one; -1: none."
    ] = -1

    tls_certificate: Annotated[
        Path | None, "The server's certificate chain, PEM; with it the port speaks TLS alone."
    ] = None
    tls_key: Annotated[Path | None, "Its private key, PEM."] = None
    tls_client_ca: Annotated[
        Path | None, "Authorities of clients' certificates, PEM; with it clients must have one."
    ] = None
    tls_client_names: Annotated[
        str, "Names of clients' certificates that may call, separated by commas. Empty: any."
    ] = ""
    tokens: Annotated[Path | None, "File of bearer tokens' hashes (docs/security.md)."] = None
    jwt_keys: Annotated[
        Path | None, "Keys that JSON Web Tokens are verified with: a JWK set, PEM, or a secret."
    ] = None
    jwt_audience: Annotated[str, "Audience that a JSON Web Token must name."] = "mirrorme"
    jwt_issuer: Annotated[str, "Issuer that a JSON Web Token must name. Empty: any."] = ""
    consent_keys: Annotated[
        Path | None, "Keys of consent tokens, as jwt-keys; with it every portrait needs one."
    ] = None

    max_sessions: Annotated[
        int, "Sessions at once; one more is refused. 0: as many as the engines hold at the start."
    ] = 0
    max_sessions_per_address: Annotated[
        int,
        "Sessions at once of an address (IPv6: a /64) of callers without token or certificate. "
        "0: no limit, as behind a proxy all have the proxy's address.",
    ] = 0
    max_message_bytes: Annotated[int, "Bytes of one request message."] = 16 << 20
    max_portrait_bytes: Annotated[int, "Bytes of a portrait file."] = 10 << 20
    max_portrait_pixels: Annotated[int, "Pixels of a portrait."] = 40_000_000
    max_buffered_audio_s: Annotated[float, "Audio that may wait; then a session is not read."] = (
        30.0
    )
    max_audio_ahead_s: Annotated[
        float, "In real time, and while acknowledgements are awaited, more audio is refused."
    ] = 120.0
    max_poses_ahead_s: Annotated[float, "Hand poses and controls may be so far ahead."] = 60.0
    max_session_s: Annotated[float, "Length of a session, in media time."] = 14_400.0
    max_idle_s: Annotated[float, "A session in which nothing moves for so long is ended."] = 60.0
    max_stall_s: Annotated[
        float, "A session in real time is ended when its client takes nothing for so long."
    ] = 5.0
    max_requests_per_s: Annotated[
        int, "Messages of a session; more are read more slowly. Twice as many may come at once."
    ] = 1000

    identity_cache_bytes: Annotated[int, "Memory for encoded portraits."] = 256 << 20
    portrait_ttl_s: Annotated[float, "A portrait unused for so long is forgotten."] = 3600.0

    store_url: Annotated[
        str, "Redis for sessions and portraits, redis://host:port/0. Empty: in this process."
    ] = ""
    store_timeout_s: Annotated[float, "Deadline of one operation of the store."] = 0.5
    session_ttl_s: Annotated[float, "A session that lost its gateway can go on for so long."] = (
        120.0
    )

    engine_timeout_s: Annotated[float, "Deadline of one engine call, queueing included."] = 10.0
    live_engine_timeout_s: Annotated[
        float, "Deadline of one engine call of a session in real time, where it is shorter."
    ] = 2.0
    engine_attempts: Annotated[int, "How often a call is made while its errors may pass."] = 3
    engine_queue_calls: Annotated[int, "Calls that may wait for one engine."] = 64

    ready_check_s: Annotated[
        float, "Without a chunk for so long, one of silence is made; readiness follows."
    ] = 15.0
    drain_s: Annotated[float, "Time for running sessions to end after SIGTERM."] = 30.0
    traces_endpoint: Annotated[
        str, "URL that OpenTelemetry traces are sent to by OTLP over HTTP. Empty: none are made."
    ] = ""
    log_format: Annotated[LogFormat, "Lines for people, or JSON."] = "text"
    log_level: Annotated[LogLevel, "The least severe level that is logged."] = "info"

    def __post_init__(self) -> None:
        """Refuses values that cannot work.

        Raises:
            ConfigError: naming the setting.
        """
        for name in ("port", "metrics_port"):
            self._check(name, 0 <= getattr(self, name) <= 65535, "0 to 65535")
        self._check("health_port", -1 <= self.health_port <= 65535, "-1 to 65535")
        self._check_ports_differ()
        self._check_security()
        for name in ("max_sessions", "max_sessions_per_address"):
            self._check(name, getattr(self, name) >= 0, "0 or more")
        counts = ("threads", "max_portrait_bytes", "max_portrait_pixels")
        counts = (*counts, "max_requests_per_s")
        for name in (*counts, "identity_cache_bytes", "engine_attempts", "engine_queue_calls"):
            self._check(name, getattr(self, name) >= 1, "1 or more")
        shared_bytes = self.triton_shared_memory_bytes
        self._check("triton_shared_memory_bytes", shared_bytes >= 0, "0 or more")
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name.endswith("_s"):
                least = 0 if field.name == "drain_s" else 1e-3
                self._check(field.name, least <= value < math.inf, f"{least:g} or more seconds")
        wanted = f"{self.max_buffered_audio_s:g} or more, as max_buffered_audio_s"
        self._check(
            "max_audio_ahead_s", self.max_audio_ahead_s >= self.max_buffered_audio_s, wanted
        )
        for name, kind in (
            ("platform", Platform),
            ("device", Device),
            ("log_format", LogFormat),
            ("log_level", LogLevel),
        ):
            choices = get_args(kind)
            self._check(name, getattr(self, name) in choices, f"one of {', '.join(choices)}")
        self._check("triton_endpoints", split_list(self.triton_endpoints), "at least one")
        least_bytes = self.max_portrait_bytes + _MESSAGE_MARGIN_BYTES
        wanted = f"{least_bytes} or more, for a portrait of max_portrait_bytes"
        self._check("max_message_bytes", least_bytes <= self.max_message_bytes < 1 << 31, wanted)

    def tls_files(self) -> TlsFiles | None:
        """The certificates; None: plaintext."""
        if self.tls_certificate is None or self.tls_key is None:
            return None
        return TlsFiles(self.tls_certificate, self.tls_key, self.tls_client_ca)

    def engine_options(self) -> EngineOptions:
        """The engines' part."""
        batch = BatchOptions(
            max_waiting_calls=self.engine_queue_calls, default_timeout_s=self.engine_timeout_s
        )
        return EngineOptions(
            platform=self.platform,
            device=self.device,
            num_threads=self.threads,
            batch=batch,
            triton=self._triton_options() if self.platform == "triton" else None,
        )

    def _triton_options(self) -> TritonOptions:
        return TritonOptions(
            endpoints=split_list(self.triton_endpoints),
            default_timeout_s=self.engine_timeout_s,
            max_inflight_calls=self.engine_queue_calls,
            shared_memory_bytes=self.triton_shared_memory_bytes,
        )

    def _check_ports_differ(self) -> None:
        names = ("port", "metrics_port", "health_port")
        for name, other in itertools.combinations(names, 2):
            port = getattr(self, name)
            if port > 0 and port == getattr(self, other):
                raise ConfigError(f"{name} and {other} are both {port}: want two ports")

    def _check_security(self) -> None:
        for name, needed in (
            ("tls_certificate", "tls_key"),
            ("tls_key", "tls_certificate"),
            ("tls_client_ca", "tls_certificate"),
            ("tls_client_names", "tls_client_ca"),
        ):
            if getattr(self, name) and not getattr(self, needed):
                raise ConfigError(f"{name} is set without {needed}: want both")
        self._check("jwt_audience", self.jwt_audience, "a name")

    def _check(self, name: str, holds: object, wanted: str) -> None:
        if not holds:
            raise ConfigError(f"{name} is {getattr(self, name)!r}: want {wanted}")


def split_list(text: str) -> tuple[str, ...]:
    """The parts of a list separated by commas."""
    return tuple(part.strip() for part in text.split(",") if part.strip())
