"""Do a checkpoint's tensors fit a model? Every key is used, known to be of no use, or named."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from mirrorme_model.errors import CheckpointError
from mirrorme_model.tensor_source import Shapes

_MAX_LISTED = 8


def match_keys(
    wanted: Shapes,
    names: Mapping[str, str],
    got: Shapes,
    *,
    is_unused: Callable[[str], bool],
    where: str,
    advice: str,
) -> None:
    """Checks all keys.

    Args:
        wanted: shapes by our names.
        names: our names to the checkpoint's.
        got: shapes by the checkpoint's names.
        is_unused: True for names of the checkpoint that are known, and that nothing needs.
        where: the checkpoint, for the message.
        advice: what to use instead, and where it is published.

    Raises:
        CheckpointError: naming what is missing, unexpected, or of another shape.
    """
    used = set(names.values())
    missing = sorted(used - got.keys())
    unexpected = sorted(name for name in got.keys() - used if not is_unused(name))
    others = [
        f"{name} is {list(got[name])}, want {list(wanted[own])}"
        for own, name in sorted(names.items())
        if name in got and got[name] != wanted[own]
    ]
    faults = [
        _listed(f"{len(found)} {kind}", found)
        for kind, found in (("missing", missing), ("unexpected", unexpected), ("misshapen", others))
        if found
    ]
    if faults:
        raise CheckpointError(f"{where} does not fit: {'; '.join(faults)}. {advice}")


def _listed(kind: str, names: list[str]) -> str:
    more = f" and {len(names) - _MAX_LISTED} more" if len(names) > _MAX_LISTED else ""
    return f"{kind}: {', '.join(names[:_MAX_LISTED])}{more}"
