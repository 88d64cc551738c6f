"""Regions of shared memory: whose they are, when they are used again, and what becomes of them."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import grpc
import numpy as np
import pytest
from mirrorme_engines import triton_replica, triton_shared_memory
from mirrorme_engines.engine import EngineSet
from mirrorme_engines.errors import EngineTimeout
from mirrorme_engines.fake_manifest import fake_manifest
from mirrorme_engines.triton_engine import TritonEngine, open_triton_engines
from mirrorme_engines.triton_options import TritonOptions
from mirrorme_engines.triton_region import Region, remove_orphans

from tests.engines.fake_triton import FakeTriton

MANIFEST = fake_manifest()
INPUTS = {"latents": np.zeros((1, *MANIFEST.engine("decoder").inputs[0].dims), np.float32)}
Open = Callable[..., Awaitable[EngineSet]]


@pytest.fixture
def memory(tmp_path: Path) -> Path:
    folder = tmp_path / "memory"
    folder.mkdir()
    return folder


@pytest.fixture
async def server(memory: Path) -> AsyncIterator[FakeTriton]:
    fake = FakeTriton(MANIFEST)
    fake.shared_memory = memory
    yield await fake.start()
    await fake.stop()


@pytest.fixture
async def open_set(server: FakeTriton, memory: Path, tmp_path: Path) -> AsyncIterator[Open]:
    MANIFEST.save(tmp_path)
    opened: list[EngineSet] = []

    async def open_one(**given: float) -> EngineSet:
        settings = {"shared_memory_min_bytes": 0, "first_backoff_s": 0.02, **given}
        options = TritonOptions((server.address,), **settings)  # pyright: ignore
        opened.append(await open_triton_engines(tmp_path, options, shared_memory=memory))
        return opened[-1]

    yield open_one
    for engines in opened:
        await engines.close()
    assert names(memory) == set()


def names(memory: Path) -> set[str]:
    return {path.name for path in memory.iterdir()}


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what is waited for tells nobody
            await asyncio.sleep(0.005)


async def decoded(engines: EngineSet) -> bool:
    (frames,) = (await engines.decoder.infer(INPUTS)).values()
    assert frames.base is None and frames.flags.writeable
    return bool((frames == 1).all())


async def test_regions_are_used_again(open_set: Open, memory: Path, server: FakeTriton) -> None:
    engines = await open_set()
    assert await decoded(engines)
    first = names(memory)
    for _ in range(5):
        assert await decoded(engines)
    assert names(memory) == first == server.regions
    server.open.clear()
    calls = [asyncio.create_task(decoded(engines)) for _ in range(3)]
    await until(lambda: server.num_calls == 9)
    assert len(names(memory)) == len(first) + 2
    server.open.set()
    assert all(await asyncio.gather(*calls))
    await engines.close()
    assert server.regions == set()


async def test_a_call_without_an_answer_takes_its_region_along(
    open_set: Open, memory: Path, server: FakeTriton, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server may write to it at any time until it is done with the call."""
    monkeypatch.setattr(triton_replica, "_ABANDONED_S", -0.9)
    monkeypatch.setattr(triton_replica, "_SWEEP_INTERVAL_S", 0.05)
    engines = await open_set()
    assert await decoded(engines)
    before = names(memory)
    server.open.clear()
    with pytest.raises(EngineTimeout):
        await engines.decoder.infer(INPUTS, timeout_s=0.2)
    await until(lambda: before - names(memory))
    lost = before - names(memory)
    server.open.set()
    assert await decoded(engines)
    assert not lost & names(memory)
    await until(lambda: not lost & server.regions)


async def test_forgotten_regions_cost_no_call(
    open_set: Open, server: FakeTriton, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(triton_replica, "_SWEEP_INTERVAL_S", 0.05)
    engines = await open_set()
    assert await decoded(engines)
    server.regions.clear()
    assert await decoded(engines)
    assert isinstance(engines.decoder, TritonEngine)
    (status,) = engines.decoder.pool.statuses()
    assert status.serving and not status.num_failures
    await until(lambda: server.regions)
    assert await decoded(engines)


@pytest.mark.parametrize("sweep_s", [0.05, 60])
async def test_what_was_registered_without_an_answer_is_given_up(
    open_set: Open,
    memory: Path,
    server: FakeTriton,
    monkeypatch: pytest.MonkeyPatch,
    sweep_s: float,
) -> None:
    """By the next sweep, or at the end."""
    monkeypatch.setattr(triton_replica, "_SWEEP_INTERVAL_S", sweep_s)
    engines = await open_set()
    monkeypatch.setattr(triton_shared_memory, "_RPC_TIMEOUT_S", 0.2)
    server.registers.clear()
    server.open.clear()
    calls = [asyncio.create_task(decoded(engines)) for _ in range(2)]
    await until(lambda: server.num_calls == 2)
    assert len(names(memory)) == 1, "the calls travel in messages"
    server.open.set()
    assert all(await asyncio.gather(*calls))
    if sweep_s < 1:
        await until(lambda: len(server.regions) == 1)
    await engines.close()
    assert server.regions == set()


async def test_a_probed_server_keeps_no_old_regions(
    open_set: Open, memory: Path, server: FakeTriton, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(triton_replica, "_SWEEP_INTERVAL_S", 0.05)
    engines = await open_set()
    assert await decoded(engines)
    before = set(server.regions)
    fails = iter([(grpc.StatusCode.UNAVAILABLE, "going away")])
    server.fail = lambda: next(fails, None)
    assert await decoded(engines)
    await until(lambda: server.regions and not before & server.regions)
    assert names(memory) == server.regions


async def test_a_refused_call_keeps_its_region(
    open_set: Open, memory: Path, server: FakeTriton
) -> None:
    engines = await open_set(max_attempts=1)
    assert await decoded(engines)
    before = names(memory)
    server.fail = lambda: (grpc.StatusCode.UNAVAILABLE, "Exceeds maximum queue size")
    with pytest.raises(Exception, match="maximum queue size"):
        await engines.decoder.infer(INPUTS)
    server.fail = lambda: None
    assert await decoded(engines)
    assert names(memory) == before


async def test_a_server_that_does_not_allow_it_gets_messages(
    open_set: Open, memory: Path, server: FakeTriton
) -> None:
    server.shared_memory = None
    engines = await open_set()
    assert await decoded(engines)
    assert names(memory) == set()


async def test_no_more_than_the_bound(open_set: Open, memory: Path, server: FakeTriton) -> None:
    engines = await open_set(shared_memory_bytes=1 << 16)
    server.open.clear()
    calls = [asyncio.create_task(decoded(engines)) for _ in range(4)]
    await until(lambda: server.num_calls == 4)
    server.open.set()
    assert all(await asyncio.gather(*calls))
    (name,) = names(memory)
    assert (memory / name).stat().st_size == 1 << 16


def test_arrays_come_back_as_they_were(memory: Path) -> None:
    region = Region(1 << 16, memory)
    array = np.asfortranarray(np.arange(60, dtype=np.float32).reshape(3, 4, 5))
    region.write(128, array)
    copy = region.read(128, array.dtype, array.shape)
    assert (copy == array).all() and copy.base is None
    region.write(128, array + 1)
    assert (copy == array).all()
    region.close()
    region.close()
    assert names(memory) == set()


def test_only_the_dead_lose_their_regions(memory: Path) -> None:
    """A crash ends the owner's lock, and nothing else does."""
    living = Region(1 << 16, memory)
    code = (
        "import os, sys; from pathlib import Path\n"
        "from mirrorme_engines.triton_region import Region\n"
        "region = Region(1 << 16, Path(sys.argv[1])); print(region.name, flush=True); os._exit(1)"
    )
    crashed = subprocess.run(
        [sys.executable, "-c", code, str(memory)], capture_output=True, text=True, check=False
    )
    (memory / "of_somebody_else").touch()
    dead = crashed.stdout.strip()
    assert names(memory) == {living.name, dead, "of_somebody_else"}
    assert remove_orphans(memory) == [dead]
    assert names(memory) == {living.name, "of_somebody_else"}
    living.close()
