"""A session in real time whose clock a test moves, frame by frame."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import numpy as np
from mirrorme.animate.v1 import animation_pb2 as pb
from mirrorme_engines.fake_compute import FrameCodes, read_codes
from mirrorme_service.load_governor import LoadGovernor

from tests.service.gateway import Animation, Gateway, config, until
from tests.service.still_clock import StillClock

FRAME_S = 1 / 24
CHUNK_FRAMES = 8
FIRST_LEAD_S = LoadGovernor(1 / 3, 1 / 6, has_cheaper=False).lead_s


class LiveSession:
    """Reads all that the server sends. Time moves only when a test says so."""

    def __init__(self, clock: StillClock, call: Any) -> None:
        self.clock = clock
        self.call = call
        self.seen = Animation()
        self.error: grpc.aio.AioRpcError | None = None
        self._start_s = clock.now_s() + FIRST_LEAD_S
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        try:
            while (response := await self.call.read()) is not grpc.aio.EOF:
                self.seen.take(response)
        except grpc.aio.AioRpcError as error:
            self.error = error

    def move_to_frame(self, frame: int) -> None:
        """To just after the frame is due."""
        self.clock.move_to(self._start_s + frame * FRAME_S + 0.001)

    async def play(self, first_frame: int, stop_frame: int) -> None:
        """Moves from frame to frame, and waits for each."""
        for frame in range(first_frame, stop_frame):
            self.move_to_frame(frame)
            await until(lambda frame=frame: self.num_frames > frame or self.error)
            assert self.error is None, self.error

    async def play_until(self, holds: Callable[[], object], first_frame: int) -> int:
        """Plays until something holds; returns the frame to go on with."""
        frame = first_frame
        while not holds():
            await self.play(frame, frame + 1)
            await asyncio.sleep(0.05)
            frame += 1
        return frame

    async def play_out(self) -> None:
        """Half-closes and moves on until the server ends the session."""
        await self.call.done_writing()
        while not self._reader.done():
            await asyncio.sleep(0.01)
            self.clock.move_to(self.clock.now_s() + FRAME_S / 4)

    async def ended(self) -> None:
        """Waits until the server ended the session."""
        await asyncio.wait_for(asyncio.shield(self._reader), 20)

    @property
    def num_frames(self) -> int:
        """Index after the last frame seen."""
        batches = self.seen.batches
        return batches[-1].first_frame_index + len(batches[-1].frames) if batches else 0

    @property
    def indices(self) -> list[int]:
        """Of all frames seen."""
        return [b.first_frame_index + i for b in self.seen.batches for i in range(len(b.frames))]

    def events(self, kind: str) -> list[pb.SessionEvent]:
        """Those of one kind, in order."""
        return [event for event in self.seen.events if event.HasField(kind)]

    def codes(self) -> dict[int, FrameCodes]:
        """What the fake engines drew, by frame."""
        size = self.seen.started.frame_size
        shape = (size.height_px, size.width_px, 3)
        return {
            index: read_codes(np.frombuffer(data, np.uint8).reshape(shape))
            for index, data in zip(self.indices, self.seen.pixels, strict=True)
        }

    def is_idle(self) -> dict[int, bool]:
        """What the server says of each frame."""
        return {
            batch.first_frame_index + i: batch.is_idle
            for batch in self.seen.batches
            for i in range(len(batch.frames))
        }


@asynccontextmanager
async def live_session(
    gateway: Gateway, clock: StillClock, **settings: Any
) -> AsyncIterator[LiveSession]:
    """Opens one; it is cancelled at the end if it is still there."""
    settings = {"pacing": pb.PACING_REAL_TIME, "include_audio": True, **settings}
    call = gateway.stub.StreamAnimate()
    await call.write(config(**settings))
    session = LiveSession(clock, call)
    try:
        await until(lambda: session.seen.started or session.error)
        yield session
    finally:
        call.cancel()
        await asyncio.wait([session._reader])
