"""How hard each fuzzer here tries: some known inputs, or as many new ones as the profile says."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

_IS_LONG = settings.get_current_profile_name() == "fuzz"


def effort(num_inputs: int) -> settings:
    """Settings of a test: so many inputs, always the same; with the profile, its many new ones."""
    return settings(
        max_examples=settings.default.max_examples if _IS_LONG else num_inputs,
        derandomize=not _IS_LONG,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
