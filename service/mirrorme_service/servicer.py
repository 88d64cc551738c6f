"""The RPCs of AnimationService: each admits, checks, and hands over to what does the work."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from functools import partial

import grpc.aio
from mirrorme.animate.v1 import animation_pb2 as pb
from mirrorme.animate.v1 import animation_pb2_grpc

from mirrorme_service.admission import Admission
from mirrorme_service.authentication import certificate_name
from mirrorme_service.caller import ANYBODY, Caller, addressed_caller, certified_caller
from mirrorme_service.capabilities import capabilities
from mirrorme_service.config import ServiceConfig, split_list
from mirrorme_service.consent import Consent
from mirrorme_service.error_border import as_animation_error, error_border, is_client_gone
from mirrorme_service.errors import (
    AtCapacity,
    FailedPrecondition,
    ServerUnavailable,
    TimedOut,
)
from mirrorme_service.farewell import Drain, Farewell
from mirrorme_service.identity_cache import Identity, IdentityCache
from mirrorme_service.log_format import log_about_session, logged_session
from mirrorme_service.metrics import Metrics
from mirrorme_service.model import Model
from mirrorme_service.portrait_sources import PortraitSources
from mirrorme_service.request_validation import check_preset
from mirrorme_service.served_fields import check_known, check_served, unserved_fields
from mirrorme_service.session import Session
from mirrorme_service.session_config import effective_config
from mirrorme_service.session_record import SessionRecord
from mirrorme_service.store import Hold
from mirrorme_service.takeover import Takeover
from mirrorme_service.traces import Traces, current_trace
from mirrorme_service.wall_clock import WallClock

log = logging.getLogger(__name__)

# Of sessions that ended with these reasons; the others failed.
_OUTCOMES = {"SERVER_DRAINING": "drained", "SESSION_TAKEN_OVER": "moved"}
# A stream that holds a place is there to be used.
_MAX_WAIT_FOR_CONFIG_S = 10.0
_REFUSE_AFTER_S = 0.01
# How long a chunk takes to make, as part of its own length, before any was.
_FIRST_GUESS_CHUNKS = 0.5


class AnimationServicer(animation_pb2_grpc.AnimationServiceServicer):
    """Serves one model. Stateless: what it uses is owned by the server."""

    def __init__(
        self,
        config: ServiceConfig,
        model: Model,
        identities: IdentityCache,
        admission: Admission,
        drain: Drain,
        takeover: Takeover,
        metrics: Metrics,
        version: str,
        clock: WallClock,
        consent: Consent | None,
        traces: Traces,
    ) -> None:
        self._config = config
        self._model = model
        self._portraits = PortraitSources(identities, consent)
        self._admission = admission
        self._drain = drain
        self._takeover = takeover
        self._metrics = metrics
        self._version = version
        self._clock = clock
        self._client_names = split_list(config.tls_client_names)
        self._traces = traces
        self._unserved = unserved_fields(model.manifest, consent=consent is not None)
        chunk_s = float(model.clock.chunk_frames / model.clock.frame_rate)
        self._first_guess_s = _FIRST_GUESS_CHUNKS * chunk_s
        self._capabilities = capabilities(model, config, version)

    async def GetCapabilities(
        self, request: pb.GetCapabilitiesRequest, context: grpc.aio.ServicerContext
    ) -> pb.GetCapabilitiesResponse:
        """What this server offers."""
        async with error_border(context, "GetCapabilities", self._metrics):
            self._caller(context)
            return self._capabilities
        return self._capabilities  # to nobody: the client went away

    async def RegisterPortrait(
        self, request: pb.RegisterPortraitRequest, context: grpc.aio.ServicerContext
    ) -> pb.RegisterPortraitResponse:
        """Encodes a portrait, unless it is known."""
        async with error_border(context, "RegisterPortrait", self._metrics):
            self._caller(context)
            check_known(request, "")
            check_served(request, self._unserved)
            check_preset("preset", request.preset, self._model.manifest)
            identity, lookup = await self._portraits.register(request)
            log.info("portrait %.12s registered: %s", identity.portrait.portrait_id, lookup)
            return pb.RegisterPortraitResponse(
                portrait=identity.portrait, already_known=lookup != "miss"
            )
        return pb.RegisterPortraitResponse()  # to nobody: the client went away

    async def StreamAnimate(
        self,
        request_iterator: AsyncIterator[pb.StreamAnimateRequest],
        context: grpc.aio.ServicerContext,
    ) -> None:
        """One session, from its config to its summary."""
        session_id = uuid.uuid4().hex
        with logged_session(session_id):
            async with error_border(context, "StreamAnimate", self._metrics):
                try:
                    await self._animate(session_id, request_iterator, context)
                except (AtCapacity, ServerUnavailable):
                    # A grpc.aio client that is refused while it writes its first message may see
                    # an internal error in place of the status.
                    await asyncio.sleep(_REFUSE_AFTER_S)
                    raise

    async def _animate(
        self,
        session_id: str,
        request_iterator: AsyncIterator[pb.StreamAnimateRequest],
        context: grpc.aio.ServicerContext,
    ) -> None:
        """A call of its own, so that all it holds is free before a slow client is told its end."""
        caller = self._caller(context)
        log_about_session(caller=caller.name if caller is not ANYBODY else "")
        farewell = Farewell(self._drain, self._model.clock, context.write)
        trace = self._traces.session(session_id, context.invocation_metadata() or ())
        with trace, self._counted() as outcome, self._admission.place(caller):
            async with farewell.watch():
                requests = aiter(request_iterator)
                session, hold = await self._open(session_id, requests)
                outcome.append("failed")
                # Apart from the first write: an error that cancels it would have grpc.aio send the
                # metadata again, which Core refuses, and the client would never be told.
                await context.send_initial_metadata(())
                await self._takeover.run(session, hold, requests, farewell)
            outcome.append("completed")
            log.info("session completed: %s", session.counts)

    def _caller(self, context: grpc.aio.ServicerContext) -> Caller:
        """Who calls: by token, else by certificate, else by address, if that counts, or anybody."""
        certificate = certificate_name(context.auth_context(), self._client_names)
        if certificate:
            return certified_caller(certificate)
        return addressed_caller(context.peer(), self._config.max_sessions_per_address)

    async def _open(
        self, session_id: str, requests: AsyncIterator[pb.StreamAnimateRequest]
    ) -> tuple[Session, Hold | None]:
        """Takes the first message and makes a session of it, and a hold if it is resumable."""
        request = await self._first_request(requests)
        check_known(request, "")
        check_served(request, self._unserved)
        if request.config.HasField("takeover"):
            return await self._take_up(request.config)
        config = effective_config(request.config, self._model.manifest)
        log_about_session(client_reference=config.client_reference)
        current_trace().describe(
            client_reference=config.client_reference,
            encoding=pb.FrameEncoding.Name(config.output.encoding),
        )
        consent_token = config.consent_token
        config.ClearField("consent_token")
        identity = await self._portraits.identity(
            config.portrait, consent_token, field="config.portrait"
        )
        config.portrait.CopyFrom(pb.PortraitSource(portrait_id=identity.portrait.portrait_id))
        hold, token = None, b""
        if config.resumable:
            hold, token = self._takeover.begin(session_id)
        started = pb.SessionStarted(
            session_id=session_id,
            effective_config=config,
            model=self._model.version(self._version),
            frame_size=self._model.frame_size(),
            timing=self._model.timing(),
            algorithmic_latency_ms=self._model.manifest.algorithmic_latency_ms,
            portrait=identity.portrait,
            takeover_token=token,
        )
        log.info(
            "session of %r: portrait %.12s, %d Hz in, %s out",
            config.client_reference,
            identity.portrait.portrait_id,
            config.audio_format.sample_rate_hz,
            pb.FrameEncoding.Name(config.output.encoding),
        )
        return self._session(started, identity, consent_token), hold

    async def _take_up(self, config: pb.SessionConfig) -> tuple[Session, Hold]:
        """Makes a session of one that was held before."""
        hold, record = await self._takeover.take_up(config)
        started = pb.SessionStarted()
        started.CopyFrom(record.started)
        started.model.CopyFrom(self._model.version(self._version))
        started.portrait.CopyFrom(record.identity.portrait)
        started.takeover_token = config.takeover.takeover_token
        started.resume_from.CopyFrom(record.input)
        log_about_session(client_reference=record.started.effective_config.client_reference)
        log.info("takes up session %s at frame %d", hold.session_id, record.wanted_frame)
        # Proofs are kept by clients only: another portrait needs one with its own session.
        return self._session(started, record.identity, "", record), hold

    def _session(
        self,
        started: pb.SessionStarted,
        identity: Identity,
        consent_token: str,
        record: SessionRecord | None = None,
    ) -> Session:
        return Session(
            self._config,
            self._model,
            self._metrics,
            started,
            identity,
            partial(self._portraits.change, consent_token),
            self._clock,
            first_guess_s=self._first_guess_s,
            record=record,
        )

    async def _first_request(
        self, requests: AsyncIterator[pb.StreamAnimateRequest]
    ) -> pb.StreamAnimateRequest:
        wait_s = min(_MAX_WAIT_FOR_CONFIG_S, self._config.max_idle_s)
        try:
            async with asyncio.timeout(wait_s):
                request = await anext(requests, None)
        except TimeoutError as error:
            waited = f"no config came within {wait_s:g} s"
            raise TimedOut("SESSION_IDLE", waited, field="config") from error
        if request is None:
            message = "the stream ended without a message: the first one carries config"
            raise FailedPrecondition("CONFIG_MISSING", message, field="config", got="nothing")
        kind = request.WhichOneof("message")
        if kind != "config":
            got = kind or "an empty message"
            message = f"the first message carries {got}: want config, then everything else"
            raise FailedPrecondition("CONFIG_NOT_FIRST", message, field="config", got=got)
        return request

    @contextmanager
    def _counted(self) -> Iterator[list[str]]:
        """Counts a session by how it ended; the list is told how far it came."""
        outcome = ["refused"]
        try:
            yield outcome
        except BaseException as error:
            if is_client_gone(error):
                outcome.append("cancelled")
            elif outcome[-1] == "failed":
                outcome.append(_OUTCOMES.get(as_animation_error(error).reason, "failed"))
            raise
        finally:
            self._metrics.sessions.labels(outcome[-1]).inc()
