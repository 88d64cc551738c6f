"""Streams of any messages against a real gateway: each ends, with a reason of the contract's."""

from __future__ import annotations

import asyncio
import gc
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

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

# Hypothesis grows beside the gateway, with each new input. So memory is looked at while inputs that
# were seen are sent again.
NUM_SENT_AGAIN, NUM_PASSES, MAX_GROWTH_MIB = 100, 4, 4
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


@dataclass
class Fuzzed:
    """A gateway, and the streams that it saw last."""

    gateway: Gateway
    last: deque[list[bytes]] = field(default_factory=lambda: deque(maxlen=NUM_SENT_AGAIN))

    async def send(self, requests: list[bytes]) -> tuple[grpc.StatusCode, str | None]:
        """How a stream of these ends."""
        async with asyncio.timeout(LIMIT_S):
            call = self.gateway.channel.stream_stream(METHOD)(requests)
            try:
                async for _response in call:
                    pass
            except grpc.aio.AioRpcError as error:
                return error.code(), error.details()
            return grpc.StatusCode.OK, ""

    async def growth_mib(self) -> float:
        """Of memory, between the first time that the last streams are sent again and the last."""
        sizes = []
        for _ in range(NUM_PASSES):
            for requests in self.last:
                await self.send(requests)
            gc.collect()
            sizes.append(psutil.Process().memory_info().rss / 2**20)
        return sizes[-1] - sizes[0]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def fuzzed() -> AsyncIterator[Fuzzed]:
    """One for all inputs; afterwards it serves as before, and holds nothing of them."""
    async with running_gateway(max_idle_s=5.0, max_session_s=60.0) as running:
        good = [config(), audio(speech(16_000))]
        alone = await animate(running.stub, good)
        tasks, fuzzed = running_tasks(), Fuzzed(running)
        yield fuzzed
        assert await fuzzed.growth_mib() < MAX_GROWTH_MIB
        assert (await animate(running.stub, good)).pixels == alone.pixels
        await until_freed(running)
        await until(lambda: running_tasks() - {asyncio.current_task()} <= tasks)


@effort(500)
@given(st.booleans(), st.lists(REQUESTS, max_size=6))
async def test_messages(fuzzed: Fuzzed, is_begun: bool, requests: list[bytes]) -> None:
    requests = [CONFIG, *requests] if is_begun else requests
    fuzzed.last.append(requests)
    code, details = await fuzzed.send(requests)
    # grpc.aio's words for a write that failed because the server had answered already.
    assert code in STATUSES or details == "Internal error from Core", (code, details)
