"""The load of the soak test: conversations, and clients that misbehave, for as long as wanted."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import grpc
import grpc.aio
from mirrorme.animate.v1 import animation_pb2 as pb
from mirrorme_client import AnimationClient
from mirrorme_client.bench.caller import Caller, CallPlan
from mirrorme_client.bench.session_record import SessionRecord
from mirrorme_client.bench.talk import TalkStyle, talk
from mirrorme_client.channel import channel_options

_METHOD = "/mirrorme.animate.v1.AnimationService/StreamAnimate"
_GARBAGE = b"\x12\xff"
_MIN_SESSION_S, _MAX_SESSION_S = 10.0, 40.0
_PAUSE_S = 2.0
_PIECE_S = 0.1
_ANSWER_S = 30.0


@dataclass
class SoakCounts:
    """What the load did, and how it went."""

    completed: int = 0
    interrupts: int = 0
    failures: list[str] = field(default_factory=list)
    """Of conversations, which must not fail, and of misbehaviour that was not answered rightly."""
    misbehaved: Counter[str] = field(default_factory=Counter)


class SoakLoad:
    """Conversations one after the other on `num_talkers` places, and one client that misbehaves."""

    def __init__(
        self,
        client: AnimationClient,
        plan: CallPlan,
        picture: bytes,
        *,
        num_talkers: int,
        seed: int,
    ) -> None:
        self._client = client
        self._plan = plan
        self._picture = picture
        """A sound one, to be damaged."""
        self._num_talkers = num_talkers
        self._draw = random.Random(seed)
        self.counts = SoakCounts()
        self._ways: dict[str, Callable[[Call], Awaitable[None]]] = {
            "vanished": self._vanish,
            "never read": self._never_read,
            "sent garbage": self._send_garbage,
            "half-closed early": self._half_close_early,
            "sent a damaged picture": self._send_damaged_picture,
        }

    async def run(self, seconds: float, ended: Callable[[SessionRecord], None]) -> None:
        """Runs until the time is over and the last conversation has ended.

        Args:
            seconds: how long new conversations begin.
            ended: told of each conversation.
        """
        stop_s = time.monotonic() + seconds
        async with asyncio.TaskGroup() as tasks:
            for _ in range(self._num_talkers):
                tasks.create_task(self._talk_on(stop_s, ended))
            tasks.create_task(self._misbehave_on(stop_s))

    async def _talk_on(self, stop_s: float, ended: Callable[[SessionRecord], None]) -> None:
        while (left_s := stop_s - time.monotonic()) > 0:
            seed = self._draw.randrange(1 << 32)
            seconds = min(max(left_s, 1.0), self._draw.uniform(_MIN_SESSION_S, _MAX_SESSION_S))
            spurts = tuple(talk(TalkStyle(), seconds, seed))
            caller = Caller(
                self._client, replace(self._plan, talk=spurts, seconds=seconds, seed=seed)
            )
            record = await caller.run()
            self.counts.completed += not record.error
            self.counts.interrupts += len(record.interrupts_s)
            self.counts.failures += [record.error] if record.error else []
            ended(record)

    async def _misbehave_on(self, stop_s: float) -> None:
        while time.monotonic() < stop_s:
            way = self._draw.choice(list(self._ways))
            async with self._call() as call:
                try:
                    await self._ways[way](call)
                except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
                    code, details = await call.stream.code(), await call.stream.details()
                    self.counts.failures.append(f"{way}: ended with {code.name}: {details}")
            self.counts.misbehaved[way] += 1
            await asyncio.sleep(self._draw.uniform(0, _PAUSE_S))

    @asynccontextmanager
    async def _call(self) -> AsyncIterator[Call]:
        """A call on a connection of its own, which is closed without a word at the end."""
        options = [*channel_options(), ("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.insecure_channel(self._client.target, options) as channel:
            stream = channel.stream_stream(_METHOD)
            call = Call(stream(), self._plan)
            await call.begin()
            yield call
        await call.closed()

    async def _vanish(self, call: Call) -> None:
        call.start_reading()
        await call.push(self._draw.uniform(0, 3))

    async def _never_read(self, call: Call) -> None:
        await call.push(self._draw.uniform(1, 10))

    async def _send_garbage(self, call: Call) -> None:
        call.start_reading()
        await call.push(self._draw.uniform(0, 1))
        await call.stream.write(_GARBAGE)
        await self._expect(call, grpc.StatusCode.INVALID_ARGUMENT, "garbage")

    async def _half_close_early(self, call: Call) -> None:
        call.start_reading()
        await call.stream.done_writing()
        await self._expect(call, grpc.StatusCode.OK, "an early half-close")

    async def _send_damaged_picture(self, call: Call) -> None:
        call.start_reading()
        await call.push(self._draw.uniform(0, 1))
        size = self._draw.randrange(100, len(self._picture))
        await call.change_portrait(self._picture[:size])
        await self._expect(call, grpc.StatusCode.INVALID_ARGUMENT, "a damaged picture")

    async def _expect(self, call: Call, wanted: grpc.StatusCode, what: str) -> None:
        if (code := await asyncio.wait_for(call.stream.code(), _ANSWER_S)) is not wanted:
            self.counts.failures.append(f"{what} was answered with {code}")


class Call:
    """A session in raw messages, which the client library would not send so."""

    def __init__(self, stream: grpc.aio.StreamStreamCall[bytes, bytes], plan: CallPlan) -> None:
        self.stream = stream
        self._plan = plan
        self._reading: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """Sends the config."""
        portrait = self._plan.portrait
        assert isinstance(portrait, pb.PortraitInfo), "the soak registers its portrait"
        config = pb.SessionConfig(
            portrait=pb.PortraitSource(portrait_id=portrait.portrait_id),
            audio_format=self._plan.voice.format,
            output=self._plan.output,
            pacing=self._plan.pacing,
        )
        await self._write(pb.StreamAnimateRequest(config=config))

    def start_reading(self) -> None:
        """Reads from now to the call's end, and keeps nothing."""
        self._reading = asyncio.create_task(self._read())

    async def closed(self) -> None:
        """Waits until the reading has ended, once the channel is closed."""
        if self._reading is not None:
            await asyncio.wait([self._reading])

    async def push(self, seconds: float) -> None:
        """Speaks in real time."""
        at_s = 0.0
        while at_s < seconds:
            chunk = pb.AudioChunk(data=self._plan.voice.piece(at_s, at_s + _PIECE_S))
            await self._write(pb.StreamAnimateRequest(audio=chunk))
            await asyncio.sleep(_PIECE_S)
            at_s += _PIECE_S

    async def change_portrait(self, image: bytes) -> None:
        """Sends another picture."""
        source = pb.PortraitSource(image=image, crop_mode=pb.CROP_MODE_CENTER)
        change = pb.ChangePortrait(portrait=source)
        await self._write(pb.StreamAnimateRequest(change_portrait=change))

    async def _read(self) -> None:
        with contextlib.suppress(grpc.aio.AioRpcError):  # the call's code says it
            while isinstance(await self.stream.read(), bytes):
                pass

    async def _write(self, request: pb.StreamAnimateRequest) -> None:
        await self.stream.write(request.SerializeToString())
