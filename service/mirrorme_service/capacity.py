"""How many streams in real time the engines hold, measured when the server starts."""

from __future__ import annotations

import asyncio
import time

from mirrorme_service.model import Model
from mirrorme_service.readiness import animate_silence

MAX_MEASURED_SESSIONS = 256

_NUM_AT_ONCE = 4
_CHUNKS_EACH = 3
# Of what was measured: encoding, audio and the network want their part, and loads are uneven.
_HEADROOM = 0.8


async def measured_capacity(model: Model) -> int:
    """Sessions that the engines serve at once, at least one.

    Raises:
        AnimationError: no chunk can be made.
    """
    await animate_silence(model)  # the first run of an engine is slow
    started_s = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(_NUM_AT_ONCE):
            tasks.create_task(_animate(model))
    took_s = time.perf_counter() - started_s
    video_s = _NUM_AT_ONCE * _CHUNKS_EACH * model.clock.chunk_frames / model.clock.frame_rate
    return max(1, min(MAX_MEASURED_SESSIONS, int(_HEADROOM * float(video_s) / took_s)))


async def _animate(model: Model) -> None:
    for _ in range(_CHUNKS_EACH):
        await animate_silence(model)
