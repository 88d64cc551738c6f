"""An error that comes while the first response is still being written reaches the client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from mirrorme.animate.v1 import animation_pb2 as pb
from mirrorme_service import server
from mirrorme_service.servicer import AnimationServicer

from tests.service.gateway import config, refusal, running_gateway

pytestmark = pytest.mark.asyncio(loop_scope="session")


class ReadsAhead(AnimationServicer):
    """Has all requests before it takes the first, so the second comes during the first write."""

    async def StreamAnimate(self, request_iterator, context) -> None:
        requests = [request async for request in request_iterator]

        async def at_once() -> AsyncIterator[pb.StreamAnimateRequest]:
            for request in requests:
                yield request

        await super().StreamAnimate(at_once(), context)


async def test_error_in_the_first_write(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "AnimationServicer", ReadsAhead)
    async with running_gateway() as gateway:
        for _ in range(20):
            told = await asyncio.wait_for(refusal(gateway.stub, [config(), config()]), 10)
            assert told.reason == "CONFIG_REPEATED"
