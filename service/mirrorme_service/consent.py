"""Proof that the portrayed person agrees: a signed token that names the portrait.

Such a token is a JSON Web Token for the audience `mirrorme.consent`, signed by whoever keeps the
agreements. Its claim `portrait` holds one or more hashes: the SHA-256 of a picture file, or the id
of a registered portrait.
"""

from __future__ import annotations

from mirrorme_service.errors import PermissionDenied
from mirrorme_service.jwt_keys import JwtKeys, TokenError, TokenExpired

AUDIENCE = "mirrorme.consent"
_CLAIM = "portrait"


class Consent:
    """Checks tokens with the keys of one file."""

    def __init__(self, keys: JwtKeys) -> None:
        self._keys = keys

    def check(self, token: str, portrait: str, *, field: str) -> None:
        """Returns if the token names the portrait.

        Args:
            token: what the client sent.
            portrait: the file's SHA-256, or the portrait's id; hexadecimal.
            field: the request's field that holds the token, for errors.

        Raises:
            PermissionDenied: CONSENT_MISSING, CONSENT_INVALID, CONSENT_EXPIRED, CONSENT_OTHER
        """
        expected = f"a consent token for the portrait {portrait}"
        if not token:
            message = f"{field} is missing: the server asks for {expected}"
            raise PermissionDenied("CONSENT_MISSING", message, field=field, expected=expected)
        try:
            claims = self._keys.claims(token, audience=AUDIENCE, required=(_CLAIM,))
        except TokenExpired as error:
            message = f"{field} has expired: want {expected}"
            raise PermissionDenied(
                "CONSENT_EXPIRED", message, field=field, expected=expected
            ) from error
        except TokenError as error:
            message = f"{field} is refused, {error}: want {expected}"
            raise PermissionDenied(
                "CONSENT_INVALID", message, field=field, expected=expected
            ) from error
        named = claims[_CLAIM]
        if portrait not in (named if isinstance(named, list) else [named]):
            message = f"{field} is for another portrait: want {expected}"
            raise PermissionDenied("CONSENT_OTHER", message, field=field, expected=expected)
