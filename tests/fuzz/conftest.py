"""How many inputs the fuzzers try: `--hypothesis-profile fuzz` tries many, new ones at each run."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile(
    "fuzz",
    max_examples=40_000,
    deadline=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)
