"""Hypothesis strategies that fill messages of the contract with all kinds of values."""

from __future__ import annotations

from typing import Any, TypeVar

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from hypothesis import strategies as st

M = TypeVar("M", bound=Message)

# Values that mean something somewhere, among those that do not.
_WORDS = ("", "demo", "fake", "jawOpen", "headYaw", "a\nb", "x" * 200, "\u00e9\u4e2d")
_NUMBERS = (0, 1, 2, 21, 90, 100, 101, 240, 8_000, 16_000, 48_000, 2**31, 2**32 - 1)
_INDICES = (0, 1, 8, 24, 2**53, 2**63 - 1, 2**64 - 1)
_MAX_REPEATED = 3
_MAX_BYTES = 400


def messages(kind: type[M]) -> st.SearchStrategy[M]:
    """Messages of a kind: each field left out, or filled, deeply."""
    return _dicts(kind.DESCRIPTOR).map(lambda fields: _built(kind, fields))


def _built(kind: type[M], fields: dict[str, Any]) -> M:
    message = kind()
    _fill(message, fields)
    return message


def _fill(message: Message, fields: dict[str, Any]) -> None:
    for name, value in fields.items():
        if isinstance(value, dict):
            part = getattr(message, name)
            part.SetInParent()
            _fill(part, value)
        elif isinstance(value, list):
            for item in value:
                if isinstance(item, dict):
                    _fill(getattr(message, name).add(), item)
                else:
                    getattr(message, name).append(item)
        else:
            setattr(message, name, value)


def _dicts(descriptor: Any) -> st.SearchStrategy[dict[str, Any]]:
    fields = {field.name: _values(field) for field in descriptor.fields}
    chosen = [oneof for oneof in descriptor.oneofs if len(oneof.fields) > 1]
    free = {n: s for n, s in fields.items() if not any(n in _names(o) for o in chosen)}
    parts = [st.fixed_dictionaries({}, optional=free)]
    for oneof in chosen:
        parts.append(
            st.one_of(
                *(st.fixed_dictionaries({name: fields[name]}) for name in _names(oneof)),
                st.just({}),
            )
        )
    return st.tuples(*parts).map(lambda dicts: {k: v for part in dicts for k, v in part.items()})


def _names(oneof: Any) -> list[str]:
    return [field.name for field in oneof.fields]


def _values(field: Any) -> st.SearchStrategy[Any]:
    one = _one(field)
    return st.lists(one, max_size=_MAX_REPEATED) if field.is_repeated else one


def _one(field: Any) -> st.SearchStrategy[Any]:
    match field.type:
        case FieldDescriptor.TYPE_MESSAGE:
            return st.deferred(lambda: _dicts(field.message_type))
        case FieldDescriptor.TYPE_ENUM:
            return st.sampled_from([*field.enum_type.values_by_number, 99])
        case FieldDescriptor.TYPE_BOOL:
            return st.booleans()
        case FieldDescriptor.TYPE_FLOAT:
            return st.floats(width=32)
        case FieldDescriptor.TYPE_DOUBLE:
            return st.floats()
        case FieldDescriptor.TYPE_STRING:
            return st.one_of(st.sampled_from(_WORDS), st.text(max_size=20))
        case FieldDescriptor.TYPE_BYTES:
            return st.binary(max_size=_MAX_BYTES)
        case FieldDescriptor.TYPE_UINT32:
            return st.one_of(st.sampled_from(_NUMBERS), st.integers(0, 2**32 - 1))
        case FieldDescriptor.TYPE_UINT64:
            return st.one_of(st.sampled_from(_INDICES), st.integers(0, 2**64 - 1))
        case FieldDescriptor.TYPE_INT32 | FieldDescriptor.TYPE_INT64:
            return st.integers(-(2**31), 2**31 - 1)
    raise AssertionError(f"no values for {field.full_name}")
