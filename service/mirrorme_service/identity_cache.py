"""Identities by portrait: what a portrait file, or a portrait id, was encoded to before.

A file that came before is neither decoded nor encoded again, and however many sessions bring a new
one at the same time, it is encoded once. Bounded in bytes; what is unused for long is forgotten.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias

import numpy as np
from mirrorme.animate.v1 import animation_pb2 as pb
from numpy.typing import NDArray

from mirrorme_service.keyed_locks import KeyedLocks
from mirrorme_service.portrait import FittedPortrait

Lookup = Literal["hit", "miss", "joined", "shared"]
"""joined: another call was encoding the same portrait already, and this one waited for it.
shared: another gateway had encoded it."""
Eviction = Literal["expired", "size"]
EncodeIdentity: TypeAlias = Callable[[NDArray[np.uint8]], Awaitable[NDArray[np.float32]]]
"""[H, W, 3] to the identity's latents [C, h, w]."""

# Hashing more than this would hold up the event loop for a millisecond.
_MAX_INLINE_HASH_BYTES = 1 << 20
# The same picture in different files. Each is counted with about this many bytes.
_MAX_FILES_PER_PORTRAIT = 16
_FILE_BYTES = 512
_MIN_EXPIRY_S = 0.01


class ReadPortrait(Protocol):
    """Fits a portrait; `PortraitReader.read` is one."""

    def __call__(
        self, data: bytes, crop_mode: pb.CropMode, *, field: str
    ) -> Awaitable[FittedPortrait]:
        """See `PortraitReader.read`."""
        ...


class Shared(Protocol):
    """Identities that other gateways encoded; `SharedPortraits` is one. Never fails."""

    async def load(self, portrait_id: str) -> Identity | None:
        """An identity by its portrait's id; None: unknown."""
        ...

    async def save(self, identity: Identity) -> None:
        """Gives an identity to the others."""
        ...


class IdentityCacheObserver:
    """Told what happens; this one does nothing. Called on the event loop: to be quick."""

    def looked_up(self, result: Lookup) -> None:
        """An identity was asked for by a portrait file, and is there now."""

    def evicted(self, reason: Eviction) -> None:
        """A portrait was forgotten."""


@dataclass(frozen=True)
class Identity:
    """An encoded portrait. Stays valid when the cache forgets it."""

    portrait: pb.PortraitInfo
    latents: NDArray[np.float32]
    """[C, h, w]; read-only."""


@dataclass
class _Entry:
    identity: Identity
    used_s: float
    files: OrderedDict[str, pb.PortraitInfo] = field(default_factory=OrderedDict)
    """Keys of the files with this picture, and how each fits."""

    @property
    def num_bytes(self) -> int:
        return self.identity.latents.nbytes + (1 + len(self.files)) * _FILE_BYTES


class IdentityCache:
    """The identities of one model. For one event loop.

    Args:
        read: decodes and fits a portrait file.
        encode: makes an identity's latents of a fitted portrait.
        weights_sha256: of the model; part of every portrait id.
        max_bytes: the least recently used are forgotten to stay within.
        ttl_s: what is unused for so long is forgotten.
        clock: seconds, never going back.
        observer: for metrics.
        shared: asked for what is not here. None: nothing is shared.
    """

    def __init__(
        self,
        read: ReadPortrait,
        encode: EncodeIdentity,
        weights_sha256: str,
        *,
        max_bytes: int,
        ttl_s: float,
        clock: Callable[[], float] = time.monotonic,
        observer: IdentityCacheObserver | None = None,
        shared: Shared | None = None,
    ) -> None:
        self._read = read
        self._encode = encode
        self._weights_sha256 = weights_sha256
        self._max_bytes = max_bytes
        self._ttl_s = ttl_s
        self._clock = clock
        self._observer = observer or IdentityCacheObserver()
        self._shared = shared
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        """By portrait id, the least recently used first."""
        self._ids: dict[str, str] = {}
        """Portrait id by file key."""
        self._locks = KeyedLocks()
        self._expiry: asyncio.TimerHandle | None = None
        self.num_bytes = 0
        """Held now."""

    def __len__(self) -> int:
        """Portraits held now."""
        return len(self._entries)

    def find(self, portrait_id: str) -> Identity | None:
        """The identity registered under an id; None: unknown, or forgotten."""
        entry = self._touched(portrait_id)
        return entry and entry.identity

    async def fetch(self, portrait_id: str) -> Identity | None:
        """As `find`, and what other gateways registered."""
        identity = self.find(portrait_id)
        if identity is not None or self._shared is None:
            return identity
        async with self._locks.hold(portrait_id):
            identity = self.find(portrait_id) or await self._shared.load(portrait_id)
            if identity is not None and self.find(portrait_id) is None:
                self._add(portrait_id, _Entry(identity, self._clock()))
                self._observer.looked_up("shared")
        return identity

    async def load(
        self, image: bytes, crop_mode: pb.CropMode, *, field: str
    ) -> tuple[Identity, Lookup]:
        """The identity of a portrait file, from memory or encoded now.

        A call that fails or is cancelled fails alone: of the calls that wait for the same portrait
        the next one takes over. `field` names the request's field that holds the file.

        Raises:
            What `read` and `encode` raise.
        """
        file_key = await _file_key(image, crop_mode)
        if identity := self._by_file(file_key):
            return self._found(identity, "hit")
        async with self._locks.hold(file_key):
            if identity := self._by_file(file_key):
                return self._found(identity, "joined")
            fitted = await self._read(image, crop_mode, field=field)
            portrait_id = self._portrait_id(fitted.pixels)
            info = fitted.to_info(portrait_id)
            waited = self._locks.is_held(portrait_id)
            async with self._locks.hold(portrait_id):
                entry = self._touched(portrait_id)
                if entry is not None:
                    self._add_file(portrait_id, entry, file_key, info)
                    identity = Identity(info, entry.identity.latents)
                    return self._found(identity, "joined" if waited else "hit")
                identity, result = await self._made(fitted, info)
                self._add(portrait_id, _Entry(identity, self._clock()), file_key)
                return self._found(identity, result)

    async def _made(self, fitted: FittedPortrait, info: pb.PortraitInfo) -> tuple[Identity, Lookup]:
        """The identity of a portrait that is not here."""
        if self._shared is not None and (known := await self._shared.load(info.portrait_id)):
            return Identity(info, known.latents), "shared"
        latents = np.array(await self._encode(fitted.pixels), np.float32)
        latents.flags.writeable = False
        identity = Identity(info, latents)
        if self._shared is not None:
            await self._shared.save(identity)
        return identity, "miss"

    def _found(self, identity: Identity, result: Lookup) -> tuple[Identity, Lookup]:
        self._observer.looked_up(result)
        return identity, result

    def _portrait_id(self, pixels: NDArray[np.uint8]) -> str:
        shape = "x".join(map(str, pixels.shape))
        digest = hashlib.sha256(f"{self._weights_sha256} {shape} ".encode())
        digest.update(np.ascontiguousarray(pixels).data)
        return digest.hexdigest()

    def _by_file(self, file_key: str) -> Identity | None:
        portrait_id = self._ids.get(file_key)
        entry = None if portrait_id is None else self._touched(portrait_id)
        if entry is None:
            return None
        return Identity(entry.files[file_key], entry.identity.latents)

    def _touched(self, portrait_id: str) -> _Entry | None:
        """The entry, now the most recently used one."""
        self._forget_expired()
        entry = self._entries.get(portrait_id)
        if entry is not None:
            entry.used_s = self._clock()
            self._entries.move_to_end(portrait_id)
        return entry

    def _add(self, portrait_id: str, entry: _Entry, file_key: str | None = None) -> None:
        self._entries[portrait_id] = entry
        self.num_bytes += entry.num_bytes
        self._watch_expiry()
        if file_key is None:
            self._make_room()
        else:
            self._add_file(portrait_id, entry, file_key, entry.identity.portrait)

    def _add_file(
        self, portrait_id: str, entry: _Entry, file_key: str, info: pb.PortraitInfo
    ) -> None:
        before = entry.num_bytes
        entry.files[file_key] = info
        self._ids[file_key] = portrait_id
        if len(entry.files) > _MAX_FILES_PER_PORTRAIT:
            oldest, _ = entry.files.popitem(last=False)
            del self._ids[oldest]
        self.num_bytes += entry.num_bytes - before
        self._make_room()

    def _make_room(self) -> None:
        self._forget_expired()
        while self.num_bytes > self._max_bytes:
            self._forget_first("size")

    def _watch_expiry(self) -> None:
        """Sees to it that what nobody asks for is forgotten, too."""
        if self._entries and self._expiry is None:
            oldest_s = next(iter(self._entries.values())).used_s
            left_s = max(oldest_s + self._ttl_s - self._clock(), _MIN_EXPIRY_S)
            self._expiry = asyncio.get_running_loop().call_later(left_s, self._on_expiry)

    def _on_expiry(self) -> None:
        self._expiry = None
        self._forget_expired()
        self._watch_expiry()

    def _forget_expired(self) -> None:
        oldest_s = self._clock() - self._ttl_s
        while self._entries and next(iter(self._entries.values())).used_s <= oldest_s:
            self._forget_first("expired")

    def _forget_first(self, reason: Eviction) -> None:
        _, entry = self._entries.popitem(last=False)
        self.num_bytes -= entry.num_bytes
        for file_key in entry.files:
            del self._ids[file_key]
        self._observer.evicted(reason)


async def file_sha256(image: bytes) -> str:
    """Of a portrait file, hexadecimal."""
    if len(image) <= _MAX_INLINE_HASH_BYTES:
        digest = hashlib.sha256(image)
    else:
        digest = await asyncio.to_thread(hashlib.sha256, image)
    return digest.hexdigest()


async def _file_key(image: bytes, crop_mode: pb.CropMode) -> str:
    return f"{await file_sha256(image)} {int(crop_mode)}"
