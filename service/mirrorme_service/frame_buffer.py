"""Decoded frames that wait to be delivered: a few chunks, in order."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

from mirrorme_service.chunk_plan import ChunkPlan, FrameChunk
from mirrorme_service.frame_encoder import Frames


@dataclass(frozen=True)
class FrameRun:
    """Consecutive frames of one chunk."""

    plan: ChunkPlan
    first_frame: int
    frames: Frames
    is_held: bool = False
    """They are of an earlier one, shown on."""

    @property
    def stop_frame(self) -> int:
        """The frame after the last."""
        return self.first_frame + len(self.frames)

    def until(self, stop_frame: int) -> FrameRun:
        """Its first frames."""
        return replace(self, frames=self.frames[: stop_frame - self.first_frame])


class FrameBuffer:
    """Whoever puts waits while `max_chunks` are held.

    Args:
        max_chunks: held at most.
        on_change: called when chunks were added, or no more come.
    """

    def __init__(self, max_chunks: int, on_change: Callable[[], None]) -> None:
        self._max_chunks = max_chunks
        self._on_change = on_change
        self._chunks: deque[FrameChunk] = deque()
        self._has_room = asyncio.Event()
        self.is_ended = False
        """No more chunks come; those held may still be delivered."""

    @property
    def is_empty(self) -> bool:
        """No frame is held."""
        return not self._chunks

    async def put(self, chunk: FrameChunk) -> None:
        """Adds a chunk after the others, once there is room."""
        while len(self._chunks) >= self._max_chunks:
            self._has_room.clear()
            await self._has_room.wait()
        self._chunks.append(chunk)
        self._on_change()

    def end(self) -> None:
        """No more chunks come."""
        self.is_ended = True
        self._on_change()

    def reopen(self) -> None:
        """More chunks come after all."""
        self.is_ended = False

    def run_from(self, frame: int) -> FrameRun | None:
        """What is held from a frame on, of one chunk. Frames before it are dropped."""
        self.drop_before(frame)
        if not self._chunks or self._chunks[0].first_frame > frame:
            return None
        chunk = self._chunks[0]
        return FrameRun(chunk.plan, frame, chunk.frames[frame - chunk.first_frame :])

    def drop_before(self, frame: int) -> None:
        """Drops the chunks that end before a frame."""
        while self._chunks and _stop(self._chunks[0]) <= frame:
            self._chunks.popleft()
            self._has_room.set()

    def drop_from(self, chunk: int) -> None:
        """Drops this chunk and those after it."""
        while self._chunks and self._chunks[-1].plan.chunk >= chunk:
            self._chunks.pop()
            self._has_room.set()


def _stop(chunk: FrameChunk) -> int:
    return chunk.first_frame + len(chunk.frames)
