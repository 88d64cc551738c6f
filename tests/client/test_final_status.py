"""The server's own status reaches the caller, also when a write fails at the same time."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from mirrorme_client import AnimationClient, pcm_s16le
from mirrorme_client.errors import InvalidRequest

from tests.client.fake_service import Behaviour, FakeAnimationService, serve, status


async def test_refusal_while_the_client_writes() -> None:
    refusal = status(grpc.StatusCode.FAILED_PRECONDITION, "enough")
    service = FakeAnimationService(Behaviour(fail=refusal, fail_after_frames=8))
    audio = [bytes(16000)] * 40
    async with serve(service) as target, AnimationClient(target) as client:
        # The race that loses the status goes either way, more often wrong than right.
        for _ in range(30):
            session = client.animate(b"picture", audio_format=pcm_s16le(16000), audio=audio)
            async with session:
                frames = 0
                with pytest.raises(InvalidRequest, match="enough"):
                    async for batch in session:
                        frames += len(batch.frames)
                assert frames == 8


async def test_good_end_while_the_client_writes() -> None:
    class Short(FakeAnimationService):
        async def StreamAnimate(self, request_iterator, context):
            async for response in super().StreamAnimate(request_iterator, context):
                if response.HasField("frames"):
                    response.Clear()
                    response.summary.num_frames = 0
                    yield response
                    return
                yield response

    audio = [bytes(16000)] * 40
    async with serve(Short()) as target, AnimationClient(target) as client:
        for _ in range(30):
            session = client.animate(b"picture", audio_format=pcm_s16le(16000), audio=audio)
            async with session:
                assert [batch async for batch in session] == []


async def test_nothing_is_lost_that_came_before_a_write_failed() -> None:
    """However slowly it is read: the status waits behind what was sent before it."""
    refusal = status(grpc.StatusCode.FAILED_PRECONDITION, "enough")
    service = FakeAnimationService(Behaviour(fail=refusal, fail_after_frames=64))
    async with serve(service) as target, AnimationClient(target) as client:
        for _ in range(5):
            session = client.animate(
                b"picture", audio_format=pcm_s16le(16000), audio=[bytes(16000)] * 40
            )
            async with session:
                frames = 0
                with pytest.raises(InvalidRequest, match="enough"):
                    async for batch in session:
                        frames += len(batch.frames)
                        await asyncio.sleep(0.02)
                assert frames == 64
