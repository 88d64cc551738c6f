"""Frozen dataclasses to JSON and back, strictly: nothing unknown, no coercion.

Only what has a default may be missing.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from mirrorme_model.errors import ConfigError

T = TypeVar("T")


def dump_json(config: Any) -> str:
    """The dataclass as one line of JSON."""
    return json.dumps(dataclasses.asdict(config), separators=(",", ":"))


def parse_json(kind: type[T], text: str, where: str) -> T:
    """Builds `kind` from what `dump_json` wrote. Fields without a default must be there.

    Args:
        kind: a dataclass.
        text: JSON.
        where: names the value in errors, for example `config`.

    Raises:
        ConfigError: naming the setting that is unknown, missing, or of the wrong type.
    """
    try:
        document = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"{where} is not JSON: {error}") from error
    return _parse(kind, document, where)


def _parse(kind: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(kind):
        return _parse_dataclass(kind, value, where)
    origin, args = get_origin(kind), get_args(kind)
    if origin is tuple and isinstance(value, list):
        return _parse_tuple(args, value, where)
    if origin is dict and isinstance(value, dict):
        return {key: _parse(args[1], item, f"{where}.{key}") for key, item in value.items()}
    if kind is Any:
        return value
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in args:
            return None
        return _parse(next(arg for arg in args if arg is not type(None)), value, where)
    if origin is Literal:
        if value in args:
            return value
        raise ConfigError(f"{where} is {value!r}: want one of {', '.join(map(repr, args))}")
    if kind is float and type(value) in (int, float):
        return float(value)
    if isinstance(kind, type) and type(value) is kind:
        return value
    raise ConfigError(f"{where} is {value!r}: want {getattr(kind, '__name__', kind)}")


def _parse_tuple(args: tuple[Any, ...], value: list[Any], where: str) -> tuple[Any, ...]:
    if args[-1] is Ellipsis:
        args = (args[0],) * len(value)
    if len(args) != len(value):
        raise ConfigError(f"{where} has {len(value)} entries: want {len(args)}")
    items = zip(args, value, strict=True)
    return tuple(_parse(arg, item, f"{where}[{i}]") for i, (arg, item) in enumerate(items))


def _parse_dataclass(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise ConfigError(f"{where} is {value!r}: want an object")
    fields = {field.name: field for field in dataclasses.fields(kind)}
    if unknown := sorted(value.keys() - fields.keys()):
        raise ConfigError(f"{where} has unknown settings: {', '.join(unknown)}")
    if missing := sorted(n for n in fields.keys() - value.keys() if not _has_default(fields[n])):
        raise ConfigError(f"{where} lacks settings: {', '.join(missing)}")
    hints = get_type_hints(kind)
    settings = {key: _parse(hints[key], item, f"{where}.{key}") for key, item in value.items()}
    try:
        return kind(**settings)
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from error


def _has_default(field: dataclasses.Field[Any]) -> bool:
    """True: a file of a version that did not have the setting yet means the default."""
    missing = dataclasses.MISSING
    return field.default is not missing or field.default_factory is not missing
