"""The Triton client against servers that fail as they are told. Real servers: tests/triton."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import grpc
import numpy as np
import pytest
from mirrorme_engines.call_context import traceparent
from mirrorme_engines.engine import EngineSet
from mirrorme_engines.errors import (
    EngineFault,
    EngineOverloaded,
    EngineTimeout,
    EngineUnavailable,
    ManifestError,
)
from mirrorme_engines.fake_manifest import fake_manifest
from mirrorme_engines.observer import AttemptOutcome, EngineObserver, SilentObserver
from mirrorme_engines.triton_endpoints import Endpoint, resolve_addresses
from mirrorme_engines.triton_engine import TritonEngine, open_triton_engines
from mirrorme_engines.triton_options import TritonOptions
from mirrorme_engines.triton_replica import TritonReplica

from tests.engines.fake_triton import FakeTriton

Open = Callable[..., Awaitable[EngineSet]]
MANIFEST = fake_manifest()
QUEUE_FULL = (grpc.StatusCode.UNAVAILABLE, "Exceeds maximum queue size")
QUEUE_EXPIRED = (grpc.StatusCode.UNAVAILABLE, "Request timeout expired")
GONE = (grpc.StatusCode.UNAVAILABLE, "Socket closed")
FAULT = (grpc.StatusCode.INTERNAL, "CUDA error")
INPUTS = {"latents": np.zeros((1, *MANIFEST.engine("decoder").inputs[0].dims), np.float32)}


@pytest.fixture
async def servers() -> AsyncIterator[list[FakeTriton]]:
    started = [await FakeTriton(MANIFEST).start() for _ in range(2)]
    yield started
    for server in started:
        await server.stop()


@pytest.fixture
async def open_set(servers: list[FakeTriton], tmp_path: Path) -> AsyncIterator[Open]:
    MANIFEST.save(tmp_path)
    opened: list[EngineSet] = []

    async def open_one(
        *endpoints: str,
        resolve: Callable = resolve_addresses,
        observer: EngineObserver | None = None,
        **options: float,
    ) -> EngineSet:
        given = endpoints or tuple(server.address for server in servers)
        settings = TritonOptions(
            given,
            **{"first_backoff_s": 0.02, "max_backoff_s": 0.1, **options},  # pyright: ignore
        )
        opened.append(await open_triton_engines(tmp_path, settings, observer, resolve))
        return opened[-1]

    yield open_one
    for engines in opened:
        await engines.close()


def statuses(engines: EngineSet) -> dict[str, bool]:
    assert isinstance(engines.decoder, TritonEngine)
    return {status.address: status.serving for status in engines.decoder.pool.statuses()}


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - what is waited for tells nobody
            await asyncio.sleep(0.005)


async def test_calls_go_to_the_least_loaded(open_set: Open, servers: list[FakeTriton]) -> None:
    engines = await open_set(default_timeout_s=60)
    servers[0].open.clear()
    held = [asyncio.create_task(engines.decoder.infer(INPUTS)) for _ in range(6)]
    # Answers have come back here, or both would count as equally loaded.
    await until(lambda: servers[0].num_calls == 3 and sum(call.done() for call in held) == 3)
    for _ in range(5):
        await engines.decoder.infer(INPUTS)
    assert [server.num_calls for server in servers] == [3, 8]
    servers[0].open.set()
    await asyncio.gather(*held)


async def test_calls_in_flight_are_bounded(open_set: Open, servers: list[FakeTriton]) -> None:
    engines = await open_set(max_inflight_calls=2)
    for server in servers:
        server.open.clear()
    held = [asyncio.create_task(engines.decoder.infer(INPUTS)) for _ in range(4)]
    await until(lambda: sum(server.num_calls for server in servers) == 4)
    with pytest.raises(EngineOverloaded, match="all 2 Triton servers have 2 calls in flight"):
        await engines.decoder.infer(INPUTS)
    for server in servers:
        server.open.set()
    await asyncio.gather(*held)
    await engines.decoder.infer(INPUTS)


async def test_waiting_calls_are_bounded(open_set: Open, servers: list[FakeTriton]) -> None:
    engines = await open_set(max_waiting_calls=1, default_timeout_s=0.4)
    for server in servers:
        await server.stop()
    await until(lambda: not any(statuses(engines).values()))
    waiting = asyncio.create_task(engines.decoder.infer(INPUTS))
    await asyncio.sleep(0.01)
    with pytest.raises(EngineOverloaded, match="1 calls wait already"):
        await engines.decoder.infer(INPUTS)
    with pytest.raises(EngineTimeout, match="while it waited for a server"):
        await waiting


@pytest.mark.parametrize("failure", [GONE, QUEUE_FULL, QUEUE_EXPIRED, FAULT])
async def test_a_failed_call_is_made_again_elsewhere(
    open_set: Open, servers: list[FakeTriton], failure: tuple
) -> None:
    engines = await open_set()
    servers[0].fail = lambda: failure
    for _ in range(4):
        await engines.decoder.infer(INPUTS)
    assert servers[0].num_calls >= 1 and servers[1].num_calls == 4


async def test_a_full_server_is_not_taken_out(open_set: Open, servers: list[FakeTriton]) -> None:
    engines = await open_set()
    servers[0].fail = lambda: QUEUE_FULL
    for _ in range(4):
        await engines.decoder.infer(INPUTS)
        assert all(statuses(engines).values())


async def test_all_full_is_overloaded(open_set: Open, servers: list[FakeTriton]) -> None:
    engines = await open_set()
    for server in servers:
        server.fail = lambda: QUEUE_FULL
    with pytest.raises(EngineOverloaded, match="Exceeds maximum queue size"):
        await engines.decoder.infer(INPUTS)
    assert [server.num_calls for server in servers] == [1, 1]


async def test_a_fault_everywhere_is_the_calls_own(
    open_set: Open, servers: list[FakeTriton]
) -> None:
    engines = await open_set()
    for server in servers:
        server.fail = lambda: FAULT
    with pytest.raises(EngineFault, match="CUDA error"):
        await engines.decoder.infer(INPUTS)
    assert [server.num_calls for server in servers] == [1, 1]
    assert all(statuses(engines).values())


async def test_a_fault_on_one_server_alone_takes_it_out(
    open_set: Open, servers: list[FakeTriton]
) -> None:
    engines = await open_set()
    servers[0].fail = lambda: FAULT
    for _ in range(2):
        await engines.decoder.infer(INPUTS)
    # Its probe runs the engine that failed, so it stays out until that is mended.
    await asyncio.sleep(0.1)
    assert statuses(engines) == {servers[0].address: False, servers[1].address: True}
    servers[0].fail = lambda: None
    await until(lambda: all(statuses(engines).values()))


async def test_attempts_are_bounded(open_set: Open, servers: list[FakeTriton]) -> None:
    engines = await open_set(max_attempts=2)
    for server in servers:
        server.fail = lambda: GONE
    with pytest.raises(EngineUnavailable, match="Socket closed"):
        await engines.decoder.infer(INPUTS)
    for server in servers:
        server.fail = lambda: None
    await engines.decoder.infer(INPUTS)


async def test_a_hanging_server_costs_half_the_time(
    open_set: Open, servers: list[FakeTriton]
) -> None:
    engines = await open_set(probe_timeout_s=1.0)
    servers[0].open.clear()
    started = asyncio.get_running_loop().time()
    for _ in range(2):
        await engines.decoder.infer(INPUTS, timeout_s=0.6)
    assert 0.3 <= asyncio.get_running_loop().time() - started < 0.6
    assert not statuses(engines)[servers[0].address]
    servers[0].open.set()
    await until(lambda: all(statuses(engines).values()))
    assert all(0 < timeout_us <= 300_000 for timeout_us in servers[0].timeouts_us[:1])


async def test_short_deadlines_blame_no_server(open_set: Open, servers: list[FakeTriton]) -> None:
    engines = await open_set()
    for server in servers:
        server.open.clear()
    with pytest.raises(EngineTimeout, match="while it ran"):
        await engines.decoder.infer(INPUTS, timeout_s=0.05)
    assert all(statuses(engines).values())
    for server in servers:
        server.open.set()


async def test_a_server_that_comes_back_gets_calls(
    open_set: Open, servers: list[FakeTriton]
) -> None:
    engines = await open_set()
    await servers[0].stop()
    await until(lambda: not statuses(engines)[servers[0].address])
    await engines.decoder.infer(INPUTS)
    await servers[0].start()
    await until(lambda: all(statuses(engines).values()))
    before = servers[0].num_calls
    for _ in range(4):
        await engines.decoder.infer(INPUTS)
    assert servers[0].num_calls == before + 2


async def test_calls_wait_for_the_only_server(open_set: Open, servers: list[FakeTriton]) -> None:
    engines = await open_set(servers[0].address)
    await servers[0].stop()
    call = asyncio.create_task(engines.decoder.infer(INPUTS))
    await asyncio.sleep(0.1)
    await servers[0].start()
    await call


async def test_a_server_that_is_not_ready_is_waited_for(
    open_set: Open, servers: list[FakeTriton]
) -> None:
    servers[0].ready = False
    opening = asyncio.create_task(open_set(servers[0].address))
    await asyncio.sleep(0.1)
    assert not opening.done()
    servers[0].ready = True
    assert "Triton 0.0.0, 1 of 1 servers" in (await opening).platform


async def test_other_weights_among_good_servers_are_refused(
    open_set: Open, servers: list[FakeTriton]
) -> None:
    servers[1].manifest = dataclasses.replace(MANIFEST, weights_sha256="1" * 64)
    with pytest.raises(ManifestError, match=f"{servers[1].address}.*{'1' * 64}.*{'0' * 64}"):
        await open_set()


async def test_a_name_is_resolved_to_many_and_again(
    open_set: Open, servers: list[FakeTriton]
) -> None:
    known: list[list[str]] = [[servers[0].address]]

    async def resolve(host: str, port: int) -> list[str]:
        assert (host, port) == ("triton.example", 8001)
        if not known[-1]:
            raise OSError("no such name")
        return known[-1]

    engines = await open_set("dns:///triton.example:8001", resolve=resolve, resolve_interval_s=0.02)
    assert statuses(engines) == {servers[0].address: True}
    known.append([server.address for server in servers])
    await until(lambda: len(statuses(engines)) == 2 and all(statuses(engines).values()))
    servers[0].open.clear()
    held = [asyncio.create_task(engines.decoder.infer(INPUTS)) for _ in range(2)]
    await until(lambda: servers[0].num_calls == 1)
    # A server that left its name gets no more calls, and its last ones end well.
    known.append([servers[1].address])
    await until(lambda: not statuses(engines)[servers[0].address])
    await engines.decoder.infer(INPUTS)
    assert servers[0].num_calls == 1
    servers[0].open.set()
    await asyncio.gather(*held)
    await until(lambda: statuses(engines) == {servers[1].address: True})
    # A name server's fault takes nothing out.
    known.append([])
    await asyncio.sleep(0.1)
    await engines.decoder.infer(INPUTS)


async def test_close_ends_calls_that_wait_for_a_server(
    open_set: Open, servers: list[FakeTriton]
) -> None:
    engines = await open_set(servers[0].address)
    await servers[0].stop()
    calls = [asyncio.create_task(engines.decoder.infer(INPUTS)) for _ in range(3)]
    await asyncio.sleep(0.05)
    await engines.close()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(result) for result in results] == [EngineUnavailable] * 3


async def test_cancelled_calls_free_their_place(open_set: Open, servers: list[FakeTriton]) -> None:
    """When the server is done with them: it is not told, since old Tritons crash of it."""
    engines = await open_set(max_inflight_calls=1)
    for server in servers:
        server.open.clear()
    calls = [asyncio.create_task(engines.decoder.infer(INPUTS)) for _ in range(2)]
    await until(lambda: sum(server.num_calls for server in servers) == 2)
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    assert all(call.cancelled() for call in calls)
    with pytest.raises(EngineOverloaded):
        await engines.decoder.infer(INPUTS)
    for server in servers:
        server.open.set()
    await until(lambda: sum(server.num_answered for server in servers) == 2)
    await asyncio.sleep(0.05)
    await asyncio.gather(*(engines.decoder.infer(INPUTS) for _ in range(2)))


async def test_not_a_number_is_a_fault(open_set: Open, servers: list[FakeTriton], monkeypatch):
    engines = await open_set()
    monkeypatch.setattr(
        "tests.engines.fake_triton.np.ones", lambda shape, dtype: np.full(shape, np.nan, dtype)
    )
    spec = engines.identity_encoder.spec
    image = np.zeros((1, *spec.inputs[0].dims), np.uint8)
    with pytest.raises(EngineFault, match="output identity holds NaN"):
        await engines.identity_encoder.infer({"image": image})


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("triton:8001", Endpoint("triton", 8001, False)),
        ("dns:///triton-headless.ns:8001", Endpoint("triton-headless.ns", 8001, True)),
        ("[::1]:8001", Endpoint("::1", 8001, False)),
    ],
)
def test_endpoints_are_read(text: str, want: Endpoint) -> None:
    assert Endpoint.parse(text) == want


@pytest.mark.parametrize(
    "text", ["triton", "triton:", ":8001", "triton:0", "triton:65536", "http://triton:8001", "a:b"]
)
def test_bad_endpoints_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="want host:port or dns:///name:port"):
        Endpoint.parse(text)


async def test_a_name_with_both_families_counts_once() -> None:
    assert await resolve_addresses("localhost", 8001) == ["127.0.0.1:8001"]


async def test_backoff_doubles_up_to_its_bound() -> None:
    options = TritonOptions(("a:1",), first_backoff_s=0.1, max_backoff_s=1)
    waits = []
    async with asyncio.TaskGroup() as tasks:
        replica = TritonReplica("127.0.0.1:9", options, tasks)
        for replica.num_failures in range(8):
            waits.append(replica.backoff_s())
        await replica.close()
    assert waits == pytest.approx([0, 0, 0.1, 0.2, 0.4, 0.8, 1, 1])


@pytest.mark.parametrize(
    "options", [{"endpoints": ()}, {"max_attempts": 0}, {"probe_timeout_s": 0.0}]
)
def test_bad_options_are_refused(options: dict) -> None:
    with pytest.raises(ValueError, match="want"):
        TritonOptions(**{"endpoints": ("a:1",), **options})


class ServerLog(SilentObserver):
    """What an observer is told of servers."""

    def __init__(self) -> None:
        self.attempts: list[tuple[str, str]] = []
        self.changes: list[tuple[str, str]] = []

    def attempt_ended(self, endpoint: str, outcome: AttemptOutcome) -> None:
        self.attempts.append((endpoint, outcome))

    def server_admitted(self, endpoint: str) -> None:
        self.changes.append((endpoint, "admitted"))

    def server_ejected(self, endpoint: str) -> None:
        self.changes.append((endpoint, "ejected"))

    def server_gone(self, endpoint: str) -> None:
        self.changes.append((endpoint, "gone"))


async def test_an_observer_is_told_of_each_server(
    open_set: Open, servers: list[FakeTriton]
) -> None:
    first, second = (server.address for server in servers)
    log = ServerLog()
    engines = await open_set(observer=log)
    assert sorted(log.changes) == sorted([(first, "admitted"), (second, "admitted")])
    log.changes.clear()
    servers[0].fail = lambda: GONE
    for _ in range(2):
        await engines.decoder.infer(INPUTS)
    servers[0].fail = lambda: None
    assert (first, "unreachable") in log.attempts
    assert log.attempts.count((second, "ok")) == 2
    await until(lambda: (first, "admitted") in log.changes)
    assert log.changes == [(first, "ejected"), (first, "admitted")]
    servers[1].fail = lambda: QUEUE_FULL
    for _ in range(2):
        await engines.decoder.infer(INPUTS)
    assert (second, "overloaded") in log.attempts
    await engines.close()
    assert sorted(log.changes[2:]) == sorted([(first, "gone"), (second, "gone")])


async def test_the_trace_of_a_call_goes_with_it(open_set: Open, servers: list[FakeTriton]) -> None:
    engines = await open_set()
    await engines.decoder.infer(INPUTS)
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    token = traceparent.set(parent)
    await engines.decoder.infer(INPUTS)
    traceparent.reset(token)
    seen = [metadata for server in servers for metadata in server.metadata]
    assert sorted(metadata.get("traceparent", "") for metadata in seen) == ["", parent]
