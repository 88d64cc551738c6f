"""Streams of any messages against a real gateway: each ends, with a reason of the contract's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import psutil
import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st
from mirrorme.animate.v1 import animation_pb2 as pb

from tests.fuzz.effort import effort
from tests.fuzz.message_strategies import messages
from tests.service.gateway import Gateway, animate, audio, config, running_gateway, speech, until
from tests.service.test_client_faults import METHOD, until_freed
from tests.service.test_flow import running_tasks

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(36_000)]

MAX_GROWTH_MIB = 64
LIMIT_S = 60.0

# What a client can bring about; INTERNAL and UNKNOWN would be faults of the server's.
STATUSES = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.OUT_OF_RANGE,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.PERMISSION_DENIED,
}

CONFIG = config().SerializeToString()
REQUESTS = st.one_of(
    messages(pb.StreamAnimateRequest).map(lambda message: message.SerializeToString()),
    st.binary(max_size=40),
)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def gateway() -> AsyncIterator[Gateway]:
    """One for all inputs; afterwards it serves as before, and holds nothing of them."""
    async with running_gateway(max_idle_s=5.0, max_session_s=60.0) as running:
        good = [config(), audio(speech(16_000))]
        alone = await animate(running.stub, good)
        process, tasks = psutil.Process(), running_tasks()
        before = process.memory_info().rss
        yield running
        assert (await animate(running.stub, good)).pixels == alone.pixels
        await until_freed(running)
        await until(lambda: running_tasks() - {asyncio.current_task()} <= tasks)
        assert process.memory_info().rss - before < MAX_GROWTH_MIB * 2**20


@effort(500)
@given(st.booleans(), st.lists(REQUESTS, max_size=6))
async def test_messages(gateway: Gateway, is_begun: bool, requests: list[bytes]) -> None:
    async with asyncio.timeout(LIMIT_S):
        call = gateway.channel.stream_stream(METHOD)([CONFIG, *requests] if is_begun else requests)
        try:
            async for _response in call:
                pass
        except grpc.aio.AioRpcError as error:
            code, details = error.code(), error.details()
            # grpc.aio's words for a write that failed because the server had answered already.
            if details == "Internal error from Core":
                return
            assert code in STATUSES, (code, details)
