"""Portraits in the store: what one gateway encoded, the others need not.

The store is a help and no more: without it, or with something odd in it, a portrait is unknown.
"""

from __future__ import annotations

import logging

import numpy as np
from google.protobuf.message import DecodeError
from mirrorme.animate.v1 import animation_pb2 as pb
from numpy.typing import NDArray

from mirrorme_service.identity_cache import Identity
from mirrorme_service.state_codec import StateUnreadable, decode_state, encode_state
from mirrorme_service.store import Store, StoreUnavailable

log = logging.getLogger(__name__)

_FORMAT = 2


class SharedPortraits:
    """The portraits of one model that other gateways encoded.

    Args:
        store: where they are; closed by who opened it.
        latent_shape: of an identity.
        ttl_s: what is unused for so long is forgotten.
    """

    def __init__(self, store: Store, latent_shape: tuple[int, int, int], ttl_s: float) -> None:
        self._store = store
        self._latent_shape = latent_shape
        self._ttl_s = ttl_s

    async def load(self, portrait_id: str) -> Identity | None:
        """A portrait by its id; None: unknown here."""
        try:
            packed = await self._store.load_portrait(portrait_id, self._ttl_s)
        except StoreUnavailable:
            return None
        return None if packed is None else self._unpacked(portrait_id, packed)

    async def save(self, identity: Identity) -> None:
        """Gives a portrait to the other gateways, if the store is there."""
        portrait = identity.portrait
        packed = encode_state((_FORMAT, portrait.SerializeToString(), identity.latents))
        try:
            await self._store.save_portrait(portrait.portrait_id, packed, self._ttl_s)
        except StoreUnavailable:
            log.info("portrait %.12s is known to this gateway only", portrait.portrait_id)

    def _unpacked(self, portrait_id: str, packed: bytes) -> Identity | None:
        try:
            version, info, latents = decode_state(packed)
            portrait = pb.PortraitInfo.FromString(info)
            values = _read_only(latents.reshape(self._latent_shape))
        except (StateUnreadable, ValueError, TypeError, AttributeError, DecodeError):
            version, portrait, values = None, None, None
        if version != _FORMAT or portrait is None or values is None:
            log.warning("the store holds something odd as portrait %.12s", portrait_id)
            return None
        if portrait.portrait_id != portrait_id or not np.isfinite(values).all():
            log.warning("the store holds another portrait as %.12s", portrait_id)
            return None
        return Identity(portrait, values)


def _read_only(values: NDArray[np.float32]) -> NDArray[np.float32]:
    owned = np.array(values, np.float32)
    owned.flags.writeable = False
    return owned
