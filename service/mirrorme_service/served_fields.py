"""What of the contract this server refuses, in one table, of which clients are told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet
from mirrorme_engines.manifest import Manifest

from mirrorme_service.errors import NotServed


@dataclass(frozen=True)
class UnservedField:
    """A field, or one value of it, that is refused when it is set."""

    path: str
    """From the request message down, for example `config.takeover`."""
    value: int | None = None
    """Of an enum: only this value is refused. None: whatever is set."""
    value_name: str = ""

    def __str__(self) -> str:
        """As clients see it in GetCapabilitiesResponse.unimplemented_fields."""
        return f"{self.path}={self.value_name}" if self.value_name else self.path

    def is_set_in(self, request: Message) -> bool:
        """Whether a request asks for it. False for requests without such a field."""
        held: Any = request
        for name in self.path.split("."):
            descriptor = held.DESCRIPTOR.fields_by_name.get(name)
            if descriptor is None:
                return False
            value = getattr(held, name)
            if not (held.HasField(name) if descriptor.has_presence else value):
                return False
            held = value
        return self.value is None or held == self.value


def unserved_fields(manifest: Manifest, *, consent: bool) -> tuple[UnservedField, ...]:
    """What this server refuses with a model: what it lacks itself, then what the model lacks.

    Args:
        manifest: the model's.
        consent: whether the server verifies consent tokens.
    """
    by_setting = {"config.consent_token": consent, "consent_token": consent}
    by_model = {
        **by_setting,
        "config.guidance": manifest.guidance is not None,
        "config.expression": manifest.expression is not None,
        "hand_poses": manifest.hands,
        "facial_controls": bool(manifest.controls),
    }
    return tuple(UnservedField(path) for path, served in by_model.items() if not served)


def check_served(request: Message, fields: tuple[UnservedField, ...]) -> None:
    """Refuses a request that sets one of the fields.

    Raises:
        NotServed: naming the field.
    """
    for field in fields:
        if field.is_set_in(request):
            raise NotServed(field.path, f"{field} is not served by this server: leave it out")


def check_known(message: Message, path: str) -> None:
    """Refuses fields that this version of the contract does not have, at any depth.

    Args:
        message: what was received.
        path: of the message in its request; empty for the request itself.

    Raises:
        NotServed: naming the field's number.
    """
    for unknown in UnknownFieldSet(message):
        field = f"{path}.{unknown.field_number}".lstrip(".")
        holder = path or "the request"
        known = f"{holder} has a field {unknown.field_number} that this server does not know"
        raise NotServed(field, f"{known}: leave it out")
    for descriptor, value in message.ListFields():
        if descriptor.message_type is not None:
            inner = f"{path}.{descriptor.name}".lstrip(".")
            for item in value if descriptor.is_repeated else (value,):
                check_known(item, inner)
