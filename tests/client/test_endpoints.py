"""Which of several servers is used."""

from __future__ import annotations

import asyncio

import grpc.aio
import pytest
from mirrorme_client.endpoints import Endpoints


class FakeChannel:
    """Of a server that answers after so many turns of the event loop; None: never."""

    def __init__(self, num_turns: int | None) -> None:
        self._num_turns = num_turns

    async def channel_ready(self) -> None:
        if self._num_turns is None:
            await asyncio.Event().wait()
        for _ in range(self._num_turns or 0):
            await asyncio.sleep(0)


def servers(*num_turns: int | None) -> Endpoints:
    def opened(target: str) -> grpc.aio.Channel:
        return FakeChannel(num_turns[int(target)])  # pyright: ignore[reportReturnType]

    return Endpoints([str(index) for index in range(len(num_turns))], opened)


@pytest.mark.parametrize(
    ("num_turns", "used"),
    [((0, 0), 0), ((20, 0), 0), ((20, 10, 0), 0), ((None, 0), 1), ((None, 20, 0), 1)],
)
async def test_the_first_of_the_list_that_answers_is_used(
    num_turns: tuple[int | None, ...], used: int
) -> None:
    endpoints = servers(*num_turns)
    await endpoints.find()
    assert endpoints.current == used


async def test_the_next_of_the_list_that_answers_takes_over() -> None:
    endpoints = servers(0, 0, 0)
    assert await endpoints.find_other(1, timeout_s=5) == 2
    assert await endpoints.find_other(2, timeout_s=5) == 0
    assert await servers(None, 0, None).find_other(1, timeout_s=0.01) is None
    assert await servers(0).find_other(0, timeout_s=5) is None
