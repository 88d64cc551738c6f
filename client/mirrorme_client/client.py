"""The async client: one connection to a MirrorMe server, for any number of sessions."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc
import grpc.aio
from google.protobuf.message import Message
from mirrorme.animate.v1 import animation_pb2 as pb

from mirrorme_client.channel import connection_error, open_channel
from mirrorme_client.credentials import Credentials
from mirrorme_client.endpoints import Endpoints
from mirrorme_client.errors import from_status
from mirrorme_client.final_status import Status
from mirrorme_client.portrait import Portrait, portrait_source, read_picture
from mirrorme_client.resuming_call import ResumingCall
from mirrorme_client.session import AnimationSession, AudioSource, EventCallback

DEFAULT_TARGET = "localhost:50051"

# A reader that is slower than the video then misses frames, instead of seeing old ones.
_LIVE_UNACKED_FRAMES = 24


class AnimationClient:
    """Owns a connection from `async with` (or `open`) to its end (or `close`).

    Use one client for a whole program, in one event loop: sessions share its connection.
    """

    def __init__(
        self,
        target: str | Sequence[str] = DEFAULT_TARGET,
        *,
        credentials: Credentials | None = None,
        connect_timeout_s: float = 10.0,
        call_timeout_s: float = 120.0,
        stall_timeout_s: float = 30.0,
        reconnect_timeout_s: float = 30.0,
    ) -> None:
        """
        Args:
            target: `host:port`, or another gRPC target such as `dns:///gateway:50051`. Several: the
                first of the list that answers is used, and the next ones when it does not serve
                any more. List them in different orders to spread sessions over them.
            credentials: token and certificates. None: plaintext, no token.
            connect_timeout_s: how long `open` tries to reach the server.
            call_timeout_s: the most that a call, or the start of a session, may take.
            stall_timeout_s: how long pushing waits in a session that nobody reads.
            reconnect_timeout_s: how long a session that lost its server looks for one.
        """
        targets = (target,) if isinstance(target, str) else tuple(target)
        self.target = ", ".join(targets)
        self._credentials = credentials or Credentials()
        self._endpoints = Endpoints(
            targets,
            partial(open_channel, credentials=self._credentials),
            self._credentials.metadata,
        )
        self._reconnect_timeout_s = reconnect_timeout_s
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
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                await self._endpoints.find()
        except TimeoutError:
            error = await connection_error(
                self._endpoints.channel(0), self.target, self._credentials, self._connect_timeout_s
            )
            await self.close()
            raise error from None
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Closes the connection; sessions still open fail."""
        await self._endpoints.close()

    async def capabilities(self) -> pb.GetCapabilitiesResponse:
        """What the server animates with, and its limits."""
        return await self._call("GetCapabilities", pb.GetCapabilitiesRequest())

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
        return await self._call("RegisterPortrait", request)

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
        resumable: bool = True,
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
            resumable=resumable,
        )
        return AnimationSession(
            ResumingCall(
                self._endpoints,
                stall_timeout_s=self._stall_timeout_s,
                reconnect_timeout_s=self._reconnect_timeout_s,
            ),
            config,
            audio=audio,
            on_event=on_event,
            start_timeout_s=self._call_timeout_s,
        )

    async def _call(self, method: str, request: Message) -> Any:
        """A call of the server in use; of the others in turn, while none is reached."""
        for num_left in reversed(range(len(self._endpoints))):
            index = self._endpoints.current
            try:
                call = getattr(self._endpoints.stub(index), method)
                return await call(
                    request, timeout=self._call_timeout_s, metadata=self._credentials.metadata
                )
            except grpc.aio.AioRpcError as error:
                is_away = error.code() is grpc.StatusCode.UNAVAILABLE
                if is_away:
                    self._endpoints.leave(index)
                if not is_away or not num_left:
                    trailing = tuple(error.trailing_metadata() or ())
                    status = Status(error.code(), error.details() or "", trailing)
                    raise from_status(status) from error
        raise AssertionError("there is at least one server")
