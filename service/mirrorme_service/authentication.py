"""Whether a call may be made at all: a bearer token where the server asks for one, a listed name of
the client's certificate where it lists names.

Knows metadata and certificates; knows no requests.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mirrorme_service.caller import ANYBODY, Caller
from mirrorme_service.errors import PermissionDenied, Unauthenticated
from mirrorme_service.jwt_keys import JwtKeys, TokenError, TokenExpired
from mirrorme_service.static_tokens import StaticTokens

_HEADER = "authorization"
_SCHEME = "bearer "
_MAX_TOKEN_CHARACTERS = 8192
_CLAIM = "mirrorme"
"""Of a JSON Web Token: an object with the caller's limits, named as in `Caller`."""


@dataclass(frozen=True)
class JwtRule:
    """What a JSON Web Token must be to let its holder in."""

    keys: JwtKeys
    audience: str
    issuer: str
    """Empty: any."""


class Authenticator:
    """Checks tokens. With neither kind configured, anybody may call."""

    def __init__(self, tokens: StaticTokens | None, jwt: JwtRule | None) -> None:
        self._tokens = tokens
        self._jwt = jwt

    def authenticate(self, metadata: Iterable[tuple[str, str | bytes]]) -> Caller:
        """Who made a call with such metadata.

        Raises:
            Unauthenticated: TOKEN_MISSING, TOKEN_INVALID, TOKEN_EXPIRED
        """
        if self._tokens is None and self._jwt is None:
            return ANYBODY
        token = _bearer_token(metadata)
        if self._tokens is not None and (caller := self._tokens.find(token)):
            return caller
        if self._jwt is not None:
            return _jwt_caller(self._jwt, token)
        raise _invalid("the server does not know it")


def certificate_name(
    auth_context: Mapping[str, Iterable[bytes]], allowed: Sequence[str]
) -> str | None:
    """The name of the client's certificate; None: it has none. TLS has checked its validity.

    Args:
        auth_context: of the call.
        allowed: names that may call; empty: any.

    Raises:
        PermissionDenied: CERTIFICATE_NOT_ALLOWED
    """
    names = [
        name.decode(errors="replace")
        for key in ("x509_subject_alternative_name", "x509_common_name")
        for name in auth_context.get(key, ())
    ]
    if not allowed:
        return next(iter(names), None)
    for name in names:
        if name in allowed:
            return name
    raise PermissionDenied(
        "CERTIFICATE_NOT_ALLOWED",
        "no name of the client's certificate may call this server: use another certificate",
        got=", ".join(names) or "no name",
    )


def _bearer_token(metadata: Iterable[tuple[str, str | bytes]]) -> str:
    values = [value for key, value in metadata if key == _HEADER]
    if not values:
        message = "the server asks for a token: send the metadata `authorization: Bearer TOKEN`"
        raise Unauthenticated("TOKEN_MISSING", message, expected="authorization: Bearer TOKEN")
    value = values[0]
    if len(values) > 1 or not isinstance(value, str):
        raise _invalid("want one header `authorization`, as text")
    if not value.lower().startswith(_SCHEME):
        raise _invalid("want the scheme Bearer")
    token = value[len(_SCHEME) :].strip()
    if not token or len(token) > _MAX_TOKEN_CHARACTERS:
        raise _invalid(f"want 1 to {_MAX_TOKEN_CHARACTERS} characters")
    return token


def _jwt_caller(rule: JwtRule, token: str) -> Caller:
    try:
        claims = rule.keys.claims(
            token, audience=rule.audience, issuer=rule.issuer, required=("sub",)
        )
    except TokenExpired as error:
        message = "the token has expired: ask for another one"
        raise Unauthenticated("TOKEN_EXPIRED", message) from error
    except TokenError as error:
        raise _invalid(str(error)) from error
    limits = claims.get(_CLAIM, {})
    return Caller(
        name=claims["sub"],
        max_sessions=_limit(limits, "max_sessions", int),
        max_requests_per_s=_limit(limits, "max_requests_per_s", int | float),
    )


def _limit(limits: Any, name: str, kind: Any) -> Any:
    """A limit that a token names. One that cannot be read must not count as none."""
    value = limits.get(name) if isinstance(limits, Mapping) else limits
    if value is None:
        return None
    if not isinstance(value, kind) or isinstance(value, bool) or value <= 0:
        raise _invalid(f"its claim {_CLAIM}.{name} is no number above 0")
    return value


def _invalid(why: str) -> Unauthenticated:
    return Unauthenticated("TOKEN_INVALID", f"the token is refused: {why}")
