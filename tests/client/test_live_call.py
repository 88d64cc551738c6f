"""What overtakes what on the way to the server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from mirrorme.animate.v1 import animation_pb2 as pb
from mirrorme_client import AnimationClient, pcm_s16le
from mirrorme_client.live_call import LiveCall

from tests.client.fake_service import FakeAnimationService, serve
from tests.service.gateway import until


class SlowCall:
    """A call whose writes wait for the test."""

    def __init__(self) -> None:
        self.may_write = asyncio.Event()
        self.written: list[pb.StreamAnimateRequest] = []
        self._ended = asyncio.Event()

    async def write(self, request: pb.StreamAnimateRequest) -> None:
        await self.may_write.wait()
        self.written.append(request)

    async def __aiter__(self) -> AsyncIterator[pb.StreamAnimateResponse]:
        await self._ended.wait()
        return
        yield

    async def done_writing(self) -> None:
        self._ended.set()

    def cancel(self) -> None:
        self._ended.set()

    def add_done_callback(self, callback: Any) -> None:
        """Never done by itself."""


def audio(number: int) -> pb.StreamAnimateRequest:
    return pb.StreamAnimateRequest(audio=pb.AudioChunk(data=bytes([number])))


async def test_interrupt_overtakes_audio_that_waits() -> None:
    slow = SlowCall()
    call = LiveCall(lambda: slow, stall_timeout_s=5)  # pyright: ignore[reportArgumentType]
    await call.open()
    controls = pb.StreamAnimateRequest(facial_controls=pb.FacialControls())
    await call.put(audio(0))
    await asyncio.sleep(0)
    await call.put(audio(1))
    await call.put(controls)
    await call.put(audio(2))
    await call.overtake(pb.StreamAnimateRequest(interrupt=pb.Interrupt()))
    await call.put(audio(3))
    slow.may_write.set()
    await until(lambda: len(slow.written) == 4)
    kinds = [request.WhichOneof("message") for request in slow.written]
    assert kinds == ["audio", "facial_controls", "interrupt", "audio"]
    assert [r.audio.data[0] for r in slow.written if r.HasField("audio")] == [0, 3]
    call._status = _Ended()  # pyright: ignore[reportAttributeAccessIssue]
    await call.close()


class _Ended:
    async def wait(self) -> Any:
        raise asyncio.CancelledError


async def test_source_stays_near_the_video_in_real_time() -> None:
    """Nobody reads: of ten minutes of speech only what may be ahead is sent."""
    service = FakeAnimationService()
    async with serve(service) as target, AnimationClient(target) as client:
        source = [bytes(32_000)] * 600
        session = client.animate(
            b"\x89PNG portrait",
            audio_format=pcm_s16le(16000),
            audio=source,
            pacing=pb.PACING_REAL_TIME,
        )
        async with session:
            await asyncio.sleep(0.5)
    assert len(service.sessions[0].audio) <= 21 * 32_000


async def test_audio_that_waits_is_sent_together() -> None:
    slow = SlowCall()
    call = LiveCall(lambda: slow, stall_timeout_s=5)  # pyright: ignore[reportArgumentType]
    await call.open()
    await call.put(audio(0))
    await asyncio.sleep(0)
    for number in (1, 2):
        await call.put(audio(number))
    await call.put(pb.StreamAnimateRequest(end_of_utterance=pb.EndOfUtterance()))
    await call.put(audio(3))
    ending = asyncio.create_task(call.half_close())
    slow.may_write.set()
    await ending
    await until(lambda: len(slow.written) == 4)
    assert [request.audio.data for request in slow.written] == [b"\0", b"\1\2", b"", b"\3"]
    assert slow.written[2].HasField("end_of_utterance")
    await call.close()
