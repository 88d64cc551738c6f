"""Envoy's own configuration of what the chart's GRPCRoute and BackendTrafficPolicy state.

As Envoy Gateway translates them; without a policy, with Envoy's defaults. Times can be divided, to
let a test see in seconds what takes minutes.
"""

from __future__ import annotations

import json
import re
from typing import Any

from tests.deploy.chart import Manifest

_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
# What Envoy and Envoy Gateway do when nothing is said.
_DEFAULT_REQUEST_TIMEOUT_S = 15.0
_DEFAULT_STREAM_IDLE_S = 300.0


def seconds(text: str) -> float:
    """Of a duration such as `1m30s`."""
    parts = re.findall(r"([0-9.]+)(ms|s|m|h)", text)
    return sum(float(number) * _UNITS_S[unit] for number, unit in parts)


def envoy_config(
    route: Manifest,
    policy: Manifest | None,
    backends: list[int],
    port: int,
    admin_port: int,
    *,
    times_faster: float = 1.0,
) -> str:
    """A whole configuration for backends on ports of this machine."""
    spec: dict[str, Any] = policy["spec"] if policy else {}
    timeouts = spec.get("timeout", {}).get("http", {})

    def duration(key: str, default_s: float) -> str:
        chosen_s = seconds(timeouts[key]) if key in timeouts else default_s
        return f"{chosen_s / times_faster:.3f}s"

    routes = [
        {
            "match": {"prefix": f"/{match['method']['service']}/", "grpc": {}},
            "route": {
                "cluster": "gateways",
                "timeout": duration("requestTimeout", _DEFAULT_REQUEST_TIMEOUT_S),
                "idle_timeout": duration("streamIdleTimeout", _DEFAULT_STREAM_IDLE_S),
                **_duration(timeouts.get("maxStreamDuration", "0s"), times_faster),
                **_retry(spec),
            },
        }
        for match in route["spec"]["rules"][0]["matches"]
    ]
    hcm = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network"
        ".http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "grpc",
        "codec_type": "HTTP2",
        "stream_idle_timeout": duration("streamIdleTimeout", _DEFAULT_STREAM_IDLE_S),
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
                },
            }
        ],
    }
    listener = {
        "name": "grpc",
        "address": _address(port),
        "filter_chains": [
            {"filters": [{"name": "hcm", "typed_config": hcm}]},
        ],
    }
    document = {
        "admin": {"address": _address(admin_port)},
        "static_resources": {"listeners": [listener], "clusters": [_cluster(spec, backends)]},
    }
    return json.dumps(document)


def _duration(longest: str, times_faster: float) -> dict[str, Any]:
    """None is how Envoy is told that there is no bound."""
    longest_s = seconds(longest) / times_faster
    return (
        {"max_stream_duration": {"max_stream_duration": f"{longest_s:.3f}s"}} if longest_s else {}
    )


def _retry(spec: Manifest) -> dict[str, Any]:
    retry = spec.get("retry")
    if retry is None:
        return {}
    back_off = retry["perRetry"]["backOff"]
    return {
        "retry_policy": {
            "retry_on": ",".join(retry["retryOn"]["triggers"]),
            "num_retries": retry["numRetries"],
            "retry_back_off": {
                "base_interval": f"{seconds(back_off['baseInterval']):.3f}s",
                "max_interval": f"{seconds(back_off['maxInterval']):.3f}s",
            },
            # As Envoy Gateway sets for every retry.
            "host_selection_retry_max_attempts": 5,
            "retry_host_predicate": [
                {
                    "name": "envoy.retry_host_predicates.previous_hosts",
                    "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.retry.host"
                        ".previous_hosts.v3.PreviousHostsPredicate"
                    },
                }
            ],
        }
    }


def _cluster(spec: Manifest, backends: list[int]) -> dict[str, Any]:
    cluster: dict[str, Any] = {
        "name": "gateways",
        "type": "STATIC",
        "connect_timeout": "5s",
        "lb_policy": "LEAST_REQUEST",
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3"
                ".HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        },
        "load_assignment": {
            "cluster_name": "gateways",
            "endpoints": [
                {
                    "lb_endpoints": [
                        {"endpoint": {"address": _address(backend)}} for backend in backends
                    ]
                }
            ],
        },
    }
    if spec:
        assert spec["loadBalancer"]["type"] == "LeastRequest"
        check = spec["healthCheck"]["active"]
        cluster["health_checks"] = [
            {
                "interval": check["interval"],
                "no_traffic_interval": check["interval"],
                "timeout": check["timeout"],
                "unhealthy_threshold": check["unhealthyThreshold"],
                "healthy_threshold": check["healthyThreshold"],
                "grpc_health_check": {"service_name": check["grpc"]["service"]},
            }
        ]
        bounds = spec["circuitBreaker"]
        cluster["circuit_breakers"] = {
            "thresholds": [
                {
                    "max_connections": bounds["maxConnections"],
                    "max_requests": bounds["maxParallelRequests"],
                    "max_pending_requests": bounds["maxPendingRequests"],
                    "max_retries": bounds["maxParallelRetries"],
                }
            ]
        }
    return cluster


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}
