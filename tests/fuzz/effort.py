"""The settings of every fuzzer here: a thousand known inputs, or what the profile says."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

_IS_LONG = settings.get_current_profile_name() == "fuzz"

EFFORT = settings(
    max_examples=settings.default.max_examples if _IS_LONG else 1_000,
    derandomize=not _IS_LONG,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
