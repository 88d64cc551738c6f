"""The servers that a client may use: a connection to each that was asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import takewhile

import grpc.aio
from mirrorme.animate.v1.animation_pb2_grpc import AnimationServiceStub

from mirrorme_client.live_call import Call

# As long as RFC 8305 ("Happy Eyeballs") has a client wait for the address that it prefers.
_PREFERENCE_S = 0.25


class Endpoints:
    """Owns the connections from their first use to `close`.

    Args:
        targets: gRPC targets, at least one. An earlier one is preferred, where it answers within
            a quarter of a second of the first answer.
        open_channel: connects to one.
        metadata: sent with each session's call.
    """

    def __init__(
        self,
        targets: Sequence[str],
        open_channel: Callable[[str], grpc.aio.Channel],
        metadata: Sequence[tuple[str, str]] = (),
    ) -> None:
        self.targets = tuple(targets)
        self.current = 0
        """The one that calls go to."""
        self._open_channel = open_channel
        self._metadata = tuple(metadata)
        self._channels: dict[int, grpc.aio.Channel] = {}

    def __len__(self) -> int:
        """How many there are."""
        return len(self.targets)

    def stub(self, index: int) -> AnimationServiceStub:
        """Of one server, by its place in `targets`."""
        return AnimationServiceStub(self.channel(index))

    def opener(self, index: int) -> Callable[[], Call]:
        """Opens a session's call at one server."""
        return partial(self.stub(index).StreamAnimate, metadata=self._metadata)

    def leave(self, index: int) -> None:
        """A server does not serve: calls go to the next one, unless they do already."""
        if self.current == index:
            self.current = (index + 1) % len(self.targets)

    async def find(self) -> None:
        """Waits until a server answers, and uses it."""
        ready = await self._first_ready(range(len(self.targets)), timeout_s=None)
        assert ready is not None
        self.current = ready

    async def find_other(self, index: int, timeout_s: float) -> int | None:
        """Another server than this one that answers; None: none does in time."""
        num_targets = len(self.targets)
        others = [(index + step) % num_targets for step in range(1, num_targets)]
        return await self._first_ready(others, timeout_s) if others else None

    async def close(self) -> None:
        """Closes the connections; calls still open fail."""
        for channel in self._channels.values():
            await channel.close()

    def channel(self, index: int) -> grpc.aio.Channel:
        """To one server, by its place in `targets`."""
        if index not in self._channels:
            self._channels[index] = self._open_channel(self.targets[index])
        return self._channels[index]

    async def _first_ready(self, indices: Iterable[int], timeout_s: float | None) -> int | None:
        """The first of these that answers, or that does so soon after a later one."""
        waits = {index: asyncio.ensure_future(self._ready(index)) for index in indices}
        try:
            await asyncio.wait(
                waits.values(), timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED
            )
            preferred = list(takewhile(lambda wait: not wait.done(), waits.values()))
            if 0 < len(preferred) < len(waits):
                await asyncio.wait(preferred, timeout=_PREFERENCE_S)
            return next((index for index, wait in waits.items() if wait.done()), None)
        finally:
            for wait in waits.values():
                wait.cancel()
            await asyncio.gather(*waits.values(), return_exceptions=True)

    async def _ready(self, index: int) -> None:
        await self.channel(index).channel_ready()
