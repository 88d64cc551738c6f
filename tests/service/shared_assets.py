"""Real pictures that are not in the repository: `../shared/assets`, where a workplace has it."""

from pathlib import Path

import pytest

_ASSETS = Path(__file__).parents[3] / "shared" / "assets"


def shared_asset(name: str) -> bytes:
    """The content of a shared asset; skips the test where it is absent, saying what is left out."""
    path = _ASSETS / name
    if not path.is_file():
        pytest.skip(f"left out: the check with the real picture {name}; there is no {path}")
    return path.read_bytes()
