"""Sessions that can go on when their stream breaks: who holds them, and how they are taken up."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import AsyncIterator

from mirrorme.animate.v1 import animation_pb2 as pb

from mirrorme_service.errors import (
    AnimationError,
    FailedPrecondition,
    InvalidRequest,
    NotFound,
    OutOfRange,
    ServerUnavailable,
)
from mirrorme_service.farewell import Farewell
from mirrorme_service.metrics import Metrics
from mirrorme_service.model import Model
from mirrorme_service.session import Session
from mirrorme_service.session_keeper import SessionKeeper
from mirrorme_service.session_record import SessionRecord
from mirrorme_service.state_codec import StateUnreadable
from mirrorme_service.store import Hold, NotClaimed, Store, StoreUnavailable

_TOKEN_BYTES = 32
_FIELD = "config.takeover"


class Takeover:
    """The resumable sessions of one gateway. Stateless: the store has them."""

    def __init__(self, store: Store, model: Model, metrics: Metrics, ttl_s: float) -> None:
        self._store = store
        self._model = model
        self._metrics = metrics
        self._ttl_s = ttl_s

    def begin(self, session_id: str) -> tuple[Hold, bytes]:
        """A new session's hold, and the token for its client."""
        token = secrets.token_bytes(_TOKEN_BYTES)
        return Hold(session_id, _sha256(token)), token

    async def take_up(self, config: pb.SessionConfig) -> tuple[Hold, SessionRecord]:
        """Takes a session from whoever holds it.

        Raises:
            InvalidRequest, NotFound, OutOfRange, FailedPrecondition, ServerUnavailable
        """
        try:
            hold, record = await self._taken(config)
        except AnimationError:
            self._metrics.takeovers.labels("refused").inc()
            raise
        self._metrics.takeovers.labels("resumed").inc()
        return hold, record

    async def run(
        self,
        session: Session,
        hold: Hold | None,
        requests: AsyncIterator[pb.StreamAnimateRequest],
        farewell: Farewell,
    ) -> None:
        """Runs a session to its end, and saves it meanwhile if it has a hold.

        Raises:
            ExceptionGroup: of what the session raised, and of SessionTaken.
        """
        if hold is None:
            await session.run(requests, farewell.send)
            return
        keeper = SessionKeeper(self._store, hold, session, farewell.say, self._ttl_s)
        async with asyncio.TaskGroup() as tasks:
            keeping = tasks.create_task(keeper.run(), name="keeper")
            await session.run(requests, farewell.send)
            keeping.cancel()
        await keeper.forget()

    async def _taken(self, config: pb.SessionConfig) -> tuple[Hold, SessionRecord]:
        others = [field.name for field, _ in config.ListFields() if field.name != "takeover"]
        if others:
            path = f"config.{others[0]}"
            message = f"{path} is set together with takeover: the config of the session holds"
            raise InvalidRequest("FIELD_CONFLICT", message, field=path, expected="unset")
        wanted = config.takeover
        try:
            hold, state = await self._store.claim_session(
                wanted.session_id, _sha256(wanted.takeover_token), self._ttl_s
            )
            record = SessionRecord.read(state, wanted.next_frame_index)
        except NotClaimed as error:
            message = "no session of this id and token waits here: it ended, or expired"
            raise NotFound("TAKEOVER_UNKNOWN", message, field=_FIELD) from error
        except StoreUnavailable as error:
            message = f"sessions cannot be taken up now: {error}"
            raise ServerUnavailable("STORE_UNAVAILABLE", message, retry_after_s=0.5) from error
        except StateUnreadable as error:
            message = "the session was held by a gateway of another version"
            raise FailedPrecondition("TAKEOVER_UNREADABLE", message, field=_FIELD) from error
        self._check(record)
        return hold, record

    def _check(self, record: SessionRecord) -> None:
        manifest, held = self._model.manifest, record.started.model
        if (held.preset, held.weights_sha256) != (manifest.preset, manifest.weights_sha256):
            message = "the session was animated by another model than is served here"
            raise FailedPrecondition("TAKEOVER_OTHER_MODEL", message, field=_FIELD)
        if record.wanted_frame < record.mark.frame:
            raise OutOfRange(
                "TAKEOVER_FRAME_GONE",
                f"frame {record.wanted_frame} was acknowledged: go on behind what was",
                field=f"{_FIELD}.next_frame_index",
                got=record.wanted_frame,
                expected=f"{record.mark.frame} or more",
            )


def _sha256(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()
