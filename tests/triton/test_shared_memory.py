"""Tensors through memory shared with a real server: the same frames, no traces, no lost calls."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from mirrorme_engines import triton_replica
from mirrorme_engines.engine import EngineSet
from mirrorme_engines.triton_engine import TritonEngine, open_triton_engines
from mirrorme_engines.triton_options import TritonOptions
from mirrorme_engines.triton_region import Region, remove_orphans
from tritonclient.grpc import service_pb2, service_pb2_grpc

from tests.engines.test_engine_contract import same
from tests.triton.small_repository import make_inputs
from tests.triton.test_failover import Sessions, assert_same, until
from tests.triton.triton_process import TritonProcess

pytestmark = [pytest.mark.triton, pytest.mark.timeout(180)]


def regions(pid: int | None = None) -> set[str]:
    """Of a process, by default this one."""
    pattern = f"mirrorme_tensors_{pid or os.getpid()}_*"
    return {path.name for path in Path("/dev/shm").glob(pattern)}


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    remove_orphans()
    before = regions()
    yield
    assert regions() == before


def options(server: TritonProcess, **given: float) -> TritonOptions:
    settings = {"shared_memory_min_bytes": 0, **given}
    return TritonOptions((server.address,), **settings)  # pyright: ignore


def num_regions(engines: EngineSet) -> int:
    assert isinstance(engines.decoder, TritonEngine)
    return sum(status.num_regions for status in engines.decoder.pool.statuses())


async def registered(server: TritonProcess) -> set[str]:
    async with grpc.aio.insecure_channel(server.address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        request = service_pb2.SystemSharedMemoryStatusRequest()
        return set((await stub.SystemSharedMemoryStatus(request)).regions)


async def until_unregistered(server: TritonProcess, names: set[str]) -> None:
    async with asyncio.timeout(20):
        while names & await registered(server):  # noqa: ASYNC110 - the server tells nobody
            await asyncio.sleep(0.1)


async def test_the_same_with_and_without(models: Path, server: TritonProcess) -> None:
    plain = await open_triton_engines(models, options(server, shared_memory_bytes=0))
    shared = await open_triton_engines(models, options(server))
    assert num_regions(plain) == 0
    for one, other in zip(plain.engines, shared.engines, strict=True):
        for batch_size in range(1, one.spec.max_batch_size + 1):
            inputs = make_inputs(one.spec, batch_size, seed=5)
            assert same(await one.infer(inputs), await other.infer(inputs))
    assert_same(await Sessions(shared).run(), await Sessions(plain).run())
    # Every call in flight has a region of its own, and they are used again.
    assert 0 < num_regions(shared) < 20
    assert await registered(server) == regions()
    await shared.close()
    assert await registered(server) == set()
    await plain.close()


async def test_noncontiguous_inputs(models: Path, server: TritonProcess) -> None:
    engines = await open_triton_engines(models, options(server))
    inputs = make_inputs(engines.denoiser.spec, 2)
    strided = {name: np.asfortranarray(array) for name, array in inputs.items()}
    assert same(await engines.denoiser.infer(strided), await engines.denoiser.infer(inputs))
    await engines.close()


async def test_small_calls_travel_in_messages(models: Path, server: TritonProcess) -> None:
    engines = await open_triton_engines(models, options(server, shared_memory_min_bytes=1 << 30))
    await engines.decoder.infer(make_inputs(engines.decoder.spec, 1))
    assert num_regions(engines) == 1  # the one that it was tried with
    await engines.close()


async def test_what_does_not_fit_travels_in_messages(models: Path, server: TritonProcess) -> None:
    engines = await open_triton_engines(models, options(server, shared_memory_bytes=1 << 18))
    inputs = [make_inputs(engines.decoder.spec, 4, seed) for seed in range(6)]
    results = await asyncio.gather(*map(engines.decoder.infer, inputs))
    for got, call in zip(results, inputs, strict=True):
        assert same(got, await engines.decoder.infer(call))
    assert num_regions(engines) == 1
    await engines.close()


@pytest.mark.parametrize("folder", ["other", "missing/folder", "/proc"])
async def test_without_common_memory_tensors_travel_in_messages(
    models: Path,
    server: TritonProcess,
    tmp_path: Path,
    folder: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As with a server on another machine, and where there is no memory or no permission."""
    (tmp_path / "other").mkdir()
    caplog.set_level("INFO")
    engines = await open_triton_engines(models, options(server), shared_memory=tmp_path / folder)
    await engines.decoder.infer(make_inputs(engines.decoder.spec, 1))
    assert num_regions(engines) == 0
    assert "in messages" in caplog.text or "shared memory: " in caplog.text
    await engines.close()
    assert not list((tmp_path / "other").iterdir())


@pytest.fixture
def own_server(models: Path, tmp_path: Path) -> Iterator[TritonProcess]:
    """One that a test may kill."""
    process = TritonProcess(models, tmp_path / "log").start()
    yield process
    process.stop()


async def test_restart_in_mid_stream(models: Path, own_server: TritonProcess) -> None:
    server = own_server
    plain = await open_triton_engines(models, options(server, shared_memory_bytes=0))
    undisturbed = await Sessions(plain).run()
    await plain.close()
    engines = await open_triton_engines(models, options(server, default_timeout_s=60))
    before = regions()
    sessions = Sessions(engines)
    running = asyncio.create_task(sessions.run(pause_s=0.02))
    await until(lambda: sessions.num_chunks >= 12)
    await asyncio.to_thread(server.kill)
    await asyncio.to_thread(server.start)
    await running
    assert_same(sessions, undisturbed)
    assert num_regions(engines) and not before & regions()
    await engines.close()


async def test_regions_that_the_server_forgot_are_made_again(
    models: Path, server: TritonProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a restart that was quicker than the connection's notice of it."""
    monkeypatch.setattr(triton_replica, "_SWEEP_INTERVAL_S", 0.2)
    engines = await open_triton_engines(models, options(server))
    inputs = make_inputs(engines.decoder.spec, 1)
    want = await engines.decoder.infer(inputs)
    async with grpc.aio.insecure_channel(server.address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        await stub.SystemSharedMemoryUnregister(service_pb2.SystemSharedMemoryUnregisterRequest())
    assert same(await engines.decoder.infer(inputs), want)
    await until(lambda: num_regions(engines) > 0)
    assert same(await engines.decoder.infer(inputs), want)
    await engines.close()


CRASHING_GATEWAY = """
import asyncio, os, signal, sys
from pathlib import Path
from mirrorme_engines.triton_engine import open_triton_engines
from mirrorme_engines.triton_options import TritonOptions

async def main():
    await open_triton_engines(Path(sys.argv[1]), TritonOptions((sys.argv[2],)))
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


async def test_what_a_crashed_gateway_left_is_removed(
    models: Path, server: TritonProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(triton_replica, "_SWEEP_INTERVAL_S", 0.2)
    living = Region(1 << 16)
    command = [sys.executable, "-c", CRASHING_GATEWAY, str(models), server.address]
    crashed = await asyncio.to_thread(subprocess.Popen, command)
    assert await asyncio.to_thread(crashed.wait) == -signal.SIGKILL
    left = regions(crashed.pid)
    assert left == await registered(server) and len(left) == 1
    engines = await open_triton_engines(models, options(server))
    assert not regions(crashed.pid)
    assert living.name in regions()
    await until_unregistered(server, left)
    await engines.close()
    living.close()
