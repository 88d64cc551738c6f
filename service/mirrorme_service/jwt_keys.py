"""Keys that JSON Web Tokens are verified with, from a file that is read again when it changes.

The file is a JWK set, one public key or certificate as PEM, or a shared secret. Each key is used
with its own algorithm and no other, whatever a token's header asks for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from mirrorme_service.watched_files import WatchedFiles

ALGORITHMS = ("HS256", "RS256", "ES256", "EdDSA")
_MIN_SECRET_BYTES = 32
_LEEWAY_S = 30
"""Between the clocks of who issues tokens and who verifies them."""


class TokenError(Exception):
    """A token that does not hold. The message says why, and holds nothing of the token."""


class TokenExpired(TokenError):
    """It held once."""


@dataclass(frozen=True)
class _Key:
    key_id: str | None
    """None: for tokens of any id."""
    algorithm: str
    key: Any


class JwtKeys:
    """Verifies tokens with the keys of one file."""

    def __init__(self, path: Path) -> None:
        """
        Raises:
            OSError, ValueError: the file cannot be read, or holds no usable key.
        """
        self._keys = WatchedFiles([path], lambda: _read(path))

    def claims(
        self, token: str, *, audience: str, issuer: str = "", required: Sequence[str] = ()
    ) -> Mapping[str, Any]:
        """What the token says, once signature, audience, issuer (if given) and times hold.

        Args:
            token: in its compact form.
            audience: one of the token's `aud`.
            issuer: the token's `iss`; empty: any.
            required: claims that must be there beside `exp` and `aud`.

        Raises:
            TokenError
        """
        try:
            key = self._key_of(jwt.get_unverified_header(token))
            return jwt.decode(
                token,
                key.key,
                algorithms=[key.algorithm],
                audience=audience,
                issuer=issuer or None,
                leeway=_LEEWAY_S,
                options={"require": ["exp", "aud", *required]},
            )
        except jwt.ExpiredSignatureError as error:
            raise TokenExpired("it has expired") from error
        except jwt.PyJWTError as error:
            raise TokenError(_reason(error)) from error

    def _key_of(self, header: Mapping[str, Any]) -> _Key:
        algorithm, key_id = header.get("alg"), header.get("kid")
        for key in self._keys.content():
            if key.algorithm == algorithm and (key.key_id is None or key.key_id == key_id):
                return key
        raise TokenError("no key of the server's fits its algorithm and key id")


def _reason(error: jwt.PyJWTError) -> str:
    match error:
        case jwt.InvalidSignatureError():
            return "its signature is wrong"
        case jwt.InvalidAudienceError():
            return "it is for another audience"
        case jwt.InvalidIssuerError():
            return "another issuer made it"
        case jwt.ImmatureSignatureError():
            return "it is not valid yet"
        case jwt.MissingRequiredClaimError():
            return f"it lacks the claim {error.claim}"
        case _:
            return "it is no well-formed JSON Web Token"


def _read(path: Path) -> tuple[_Key, ...]:
    data = path.read_bytes().strip()
    try:
        if data.startswith(b"{"):
            jwk_set = jwt.PyJWKSet.from_json(data.decode())
            keys = [_Key(key.key_id, key.algorithm_name, key.key) for key in jwk_set.keys]
        elif data.startswith(b"-----BEGIN"):
            keys = [_pem_key(data)]
        else:
            keys = [_Key(None, "HS256", data)]
            if len(data) < _MIN_SECRET_BYTES:
                raise ValueError(f"a secret of {len(data)} bytes: want {_MIN_SECRET_BYTES} or more")
    except (ValueError, jwt.PyJWTError) as error:
        raise ValueError(f"{path} holds no usable key: {error}") from error
    usable = tuple(key for key in keys if key.algorithm in ALGORITHMS)
    if not usable:
        raise ValueError(f"{path} holds no key for {', '.join(ALGORITHMS)}")
    return usable


def _pem_key(data: bytes) -> _Key:
    if b"-----BEGIN CERTIFICATE" in data:
        key = x509.load_pem_x509_certificate(data).public_key()
    else:
        key = load_pem_public_key(data)
    match key:
        case rsa.RSAPublicKey():
            return _Key(None, "RS256", key)
        case ec.EllipticCurvePublicKey(curve=ec.SECP256R1()):
            return _Key(None, "ES256", key)
        case ed25519.Ed25519PublicKey():
            return _Key(None, "EdDSA", key)
        case _:
            raise ValueError("want an RSA, P-256 or Ed25519 key")
