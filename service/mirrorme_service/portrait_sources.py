"""The identity of a portrait that a client names: consent, then the file or the id.

Decodes and encodes nothing by itself: `IdentityCache` does.
"""

from __future__ import annotations

from mirrorme.animate.v1 import animation_pb2 as pb

from mirrorme_service.consent import Consent
from mirrorme_service.errors import NotFound
from mirrorme_service.identity_cache import Identity, IdentityCache, Lookup, file_sha256
from mirrorme_service.request_validation import check_crop_mode
from mirrorme_service.session_config import check_portrait_source


class PortraitSources:
    """Of one gateway. Stateless.

    Args:
        identities: what is known, and makes what is not.
        consent: checked for every portrait. None: nobody's is asked for.
    """

    def __init__(self, identities: IdentityCache, consent: Consent | None) -> None:
        self._identities = identities
        self._consent = consent

    async def register(self, request: pb.RegisterPortraitRequest) -> tuple[Identity, Lookup]:
        """The identity of a file, and whether it was known.

        Raises:
            AnimationError: of the file, or of the consent.
        """
        crop_mode = check_crop_mode("crop_mode", request.crop_mode)
        if self._consent is not None:
            portrait = await file_sha256(request.image)
            self._consent.check(request.consent_token, portrait, field="consent_token")
        return await self._identities.load(request.image, crop_mode, field="image")

    async def identity(
        self, source: pb.PortraitSource, consent_token: str, *, field: str
    ) -> Identity:
        """The identity of a source whose fields fit together. `field` is its place, for errors.

        Raises:
            AnimationError: of the portrait, or of the consent.
        """
        if self._consent is not None:
            portrait = source.portrait_id or await file_sha256(source.image)
            self._consent.check(consent_token, portrait, field="config.consent_token")
        if source.WhichOneof("source") == "image":
            crop_mode = check_crop_mode(f"{field}.crop_mode", source.crop_mode)
            identity, _ = await self._identities.load(
                source.image, crop_mode, field=f"{field}.image"
            )
            return identity
        identity = await self._identities.fetch(source.portrait_id)
        if identity is None:
            raise NotFound(
                "PORTRAIT_UNKNOWN",
                "no portrait of this id is here: it expired, or belongs to another server or "
                "model; register it again, or send the picture",
                field=f"{field}.portrait_id",
                got=source.portrait_id,
                expected="an id that RegisterPortrait returned",
            )
        return identity

    async def change(self, consent_token: str, change: pb.ChangePortrait) -> Identity:
        """The identity to go on with in mid-session.

        Raises:
            AnimationError: as `identity`, and where the source's fields do not fit together.
        """
        field = "change_portrait.portrait"
        check_portrait_source(field, change)
        return await self.identity(change.portrait, consent_token, field=field)
