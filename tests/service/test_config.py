"""Settings: defaults hold, and values that cannot be are named."""

import dataclasses
import math
from pathlib import Path

import pytest
from mirrorme_service.config import ConfigError, ServiceConfig


def test_defaults_are_valid() -> None:
    config = ServiceConfig()
    assert (config.port, config.metrics_port) == (50051, 9464)
    options = config.engine_options()
    assert options.num_threads == config.threads
    assert options.batch.default_timeout_s == config.engine_timeout_s


def test_settings_reach_the_triton_client() -> None:
    config = ServiceConfig(
        platform="triton",
        triton_endpoints="a:1, b:2",
        triton_shared_memory_bytes=7,
        engine_timeout_s=3,
        engine_queue_calls=5,
    )
    triton = config.engine_options().triton
    assert triton is not None
    assert triton.endpoints == ("a:1", "b:2")
    assert (triton.shared_memory_bytes, triton.max_inflight_calls) == (7, 5)
    assert triton.default_timeout_s == 3


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", -1),
        ("port", 65536),
        ("metrics_port", 70_000),
        ("threads", 0),
        ("max_sessions", -1),
        ("max_audio_ahead_s", 1),
        ("max_stall_s", 0),
        ("max_requests_per_s", 0),
        ("max_portrait_bytes", 0),
        ("max_portrait_pixels", 0),
        ("max_message_bytes", 1000),
        ("max_message_bytes", 1 << 31),
        ("max_buffered_audio_s", 0),
        ("max_buffered_audio_s", math.inf),
        ("max_poses_ahead_s", -1),
        ("max_session_s", math.nan),
        ("max_idle_s", 0),
        ("identity_cache_bytes", 0),
        ("portrait_ttl_s", 0),
        ("engine_timeout_s", 0),
        ("engine_attempts", 0),
        ("engine_queue_calls", 0),
        ("triton_shared_memory_bytes", -1),
        ("drain_s", -1),
        ("platform", "tensorflow"),
        ("device", "tpu"),
        ("log_format", "xml"),
        ("log_level", "loud"),
    ],
)
def test_values_that_cannot_be_are_named(name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"^{name} is .*: want "):
        ServiceConfig(**{name: value})


def test_two_ports() -> None:
    with pytest.raises(ConfigError, match="both 5000"):
        ServiceConfig(port=5000, metrics_port=5000)
    ServiceConfig(port=0, metrics_port=0)


def test_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        ServiceConfig().engines = Path("elsewhere")
