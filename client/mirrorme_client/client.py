"""The async client: one connection to a MirrorMe server, for any number of sessions."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import grpc.aio
from mirrorme.animate.v1 import animation_pb2 as pb
from mirrorme.animate.v1.animation_pb2_grpc import AnimationServiceStub

from mirrorme_client.channel import connection_error, open_channel
from mirrorme_client.credentials import Credentials
from mirrorme_client.errors import from_status
from mirrorme_client.final_status import Status
from mirrorme_client.live_call import LiveCall
from mirrorme_client.portrait import Portrait, portrait_source, read_picture
from mirrorme_client.session import AnimationSession, AudioSource, EventCallback

_Response = TypeVar("_Response")

DEFAULT_TARGET = "localhost:50051"

# A reader that is slower than the video then misses frames, instead of seeing old ones.
_LIVE_UNACKED_FRAMES = 24


class AnimationClient:
    """Owns a connection from `async with` (or `open`) to its end (or `close`).

    Use one client for a whole program, in one event loop: sessions share its connection.
    """

    def __init__(
        self,
        target: str = DEFAULT_TARGET,
        *,
        credentials: Credentials | None = None,
        connect_timeout_s: float = 10.0,
        call_timeout_s: float = 120.0,
        stall_timeout_s: float = 30.0,
    ) -> None:
        """
        Args:
            target: `host:port`, or another gRPC target such as `dns:///gateway:50051`.
            credentials: token and certificates. None: plaintext, no token.
            connect_timeout_s: how long `open` tries to reach the server.
            call_timeout_s: the most that a call, or the start of a session, may take.
            stall_timeout_s: how long pushing waits in a session that nobody reads.
        """
        self.target = target
        self._credentials = credentials or Credentials()
        self._connect_timeout_s = connect_timeout_s
        self._call_timeout_s = call_timeout_s
        self._stall_timeout_s = stall_timeout_s

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def open(self) -> None:
        """Connects, trying again until the server is there or the time is up.

        Raises:
            ServerUnavailable: nothing answered in time.
            NotAllowed: certificates do not fit.
            UnreadableInput: a file of the credentials cannot be read.
        """
        self._channel = open_channel(self.target, self._credentials)
        self._stub = AnimationServiceStub(self._channel)
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                await self._channel.channel_ready()
        except TimeoutError:
            error = await connection_error(
                self._channel, self.target, self._credentials, self._connect_timeout_s
            )
            await self.close()
            raise error from None
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Closes the connection; sessions still open fail."""
        await self._channel.close()

    async def capabilities(self) -> pb.GetCapabilitiesResponse:
        """What the server animates with, and its limits."""
        return await self._call(self._stub.GetCapabilities, pb.GetCapabilitiesRequest())

    async def register_portrait(
        self,
        picture: bytes | Path,
        *,
        crop_mode: pb.CropMode = pb.CROP_MODE_UNSPECIFIED,
        preset: str = "",
        consent_token: str = "",
    ) -> pb.RegisterPortraitResponse:
        """Encodes a portrait ahead of its first session. Its `portrait` may be given to `animate`.

        Args:
            picture: PNG, JPEG or WebP content, or the path of such a file.
        """
        request = pb.RegisterPortraitRequest(
            image=read_picture(picture),
            crop_mode=crop_mode,
            preset=preset,
            consent_token=consent_token,
        )
        return await self._call(self._stub.RegisterPortrait, request)

    def animate(
        self,
        portrait: Portrait,
        *,
        audio_format: pb.AudioFormat,
        output: pb.OutputFormat | None = None,
        audio: AudioSource | None = None,
        crop_mode: pb.CropMode = pb.CROP_MODE_UNSPECIFIED,
        pacing: pb.Pacing = pb.PACING_UNSPECIFIED,
        seed: int | None = None,
        guidance: float | None = None,
        expression: float | None = None,
        include_audio: bool = False,
        max_unacked_frames: int | None = None,
        preset: str = "",
        consent_token: str = "",
        client_reference: str = "",
        on_event: EventCallback | None = None,
    ) -> AnimationSession:
        """A session, to be entered with `async with`.

        Args:
            portrait: picture content, a file's path, or a registered portrait.
            audio_format: of the speech; see `pcm_s16le`.
            output: how frames come; see `jpeg`, `h264`. None: JPEG.
            audio: speech to push from a task of the session, to its end. None: the caller pushes.
            max_unacked_frames: frames in flight at most; the session acknowledges what was
                iterated over. None: a second of video in real time, else no bound.
            on_event: called with each event at its place in the stream of frames.

        The other arguments are the fields of `SessionConfig`.
        """
        if max_unacked_frames is None:
            is_live = pacing == pb.PACING_REAL_TIME
            max_unacked_frames = _LIVE_UNACKED_FRAMES if is_live else 0
        config = pb.SessionConfig(
            portrait=portrait_source(portrait, crop_mode),
            audio_format=audio_format,
            output=output,
            pacing=pacing,
            seed=seed,
            guidance=guidance,
            expression=expression,
            include_audio=include_audio,
            max_unacked_frames=max_unacked_frames,
            preset=preset,
            consent_token=consent_token,
            client_reference=client_reference,
        )
        return AnimationSession(
            LiveCall(
                partial(self._stub.StreamAnimate, metadata=self._credentials.metadata),
                stall_timeout_s=self._stall_timeout_s,
            ),
            config,
            audio=audio,
            on_event=on_event,
            start_timeout_s=self._call_timeout_s,
        )

    async def _call(
        self, method: grpc.aio.UnaryUnaryMultiCallable[object, _Response], request: object
    ) -> _Response:
        try:
            return await method(
                request, timeout=self._call_timeout_s, metadata=self._credentials.metadata
            )
        except grpc.aio.AioRpcError as error:
            metadata = tuple(error.trailing_metadata() or ())
            status = Status(error.code(), error.details() or "", metadata)
            raise from_status(status) from error
