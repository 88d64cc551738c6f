"""Controls by how their names begin, as users write them: `eyeBlink` for both eyes."""

from __future__ import annotations

from collections.abc import Sequence


def controls_named(names: Sequence[str], start: str) -> list[str]:
    """Those of `names` that begin with `start`.

    Raises:
        ValueError: none does.
    """
    meant = [name for name in names if name.startswith(start)]
    if not meant:
        raise ValueError(f"no control is named {start!r}: want one of {', '.join(names)}")
    return meant
