"""Servers that are killed, frozen, restarted and replaced while sessions run."""

from __future__ import annotations

import asyncio
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from mirrorme_engines.engine import EngineSet
from mirrorme_engines.manifest import Manifest
from mirrorme_engines.open_engines import open_engines
from mirrorme_engines.triton_engine import TritonEngine, open_triton_engines
from mirrorme_engines.triton_options import TritonOptions
from mirrorme_engines.triton_pool import TritonPool
from mirrorme_engines.triton_replica import ReplicaStatus
from mirrorme_export.triton_repository import TritonOptions as RepositoryOptions
from mirrorme_export.triton_repository import write_triton_repository

from tests.triton.small_repository import make_inputs, write_small_repository
from tests.triton.triton_process import TritonProcess

pytestmark = [pytest.mark.triton, pytest.mark.timeout(180)]

NUM_SESSIONS = 4
NUM_CHUNKS = 20


@pytest.fixture(scope="module")
def processes(
    models: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[TritonProcess]]:
    folder = tmp_path_factory.mktemp("pair")
    servers = [TritonProcess(models, folder / f"{i}.log") for i in range(2)]
    yield servers
    for server in servers:
        server.stop()


@pytest.fixture
def pair(processes: list[TritonProcess], models: Path) -> list[TritonProcess]:
    """Two running servers, whatever the last test did to them."""
    for server in processes:
        if server.models != models:
            server.stop()
            server.models = models
        if not server.running():
            server.start()
    return processes


async def until(condition: Callable[[], bool], timeout_s: float = 20) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - what is waited for tells nobody
            await asyncio.sleep(0.01)


def options(servers: list[TritonProcess], **given: float) -> TritonOptions:
    return TritonOptions(tuple(server.address for server in servers), **given)  # pyright: ignore


def pool_of(engines: EngineSet) -> TritonPool:
    assert isinstance(engines.decoder, TritonEngine)
    return engines.decoder.pool


def status_of(engines: EngineSet, server: TritonProcess) -> ReplicaStatus:
    return next(s for s in pool_of(engines).statuses() if s.address == server.address)


async def serving(engines: EngineSet, server: TritonProcess) -> None:
    await until(lambda: status_of(engines, server).serving)


class Sessions:
    """What `NUM_SESSIONS` sessions got, chunk by chunk, and when."""

    def __init__(self, engines: EngineSet) -> None:
        self.engines = engines
        self.latents: list[list[np.ndarray]] = [[] for _ in range(NUM_SESSIONS)]
        self.frames: list[list[np.ndarray]] = [[] for _ in range(NUM_SESSIONS)]
        self.longest_gap_s = 0.0

    async def run(self, pause_s: float = 0.0, num_chunks: int = NUM_CHUNKS) -> Sessions:
        async with asyncio.TaskGroup() as tasks:
            for i in range(NUM_SESSIONS):
                tasks.create_task(self._session(i, pause_s, num_chunks))
        return self

    @property
    def num_chunks(self) -> int:
        return sum(map(len, self.frames))

    async def _session(self, session: int, pause_s: float, num_chunks: int) -> None:
        """Each chunk is made from the one before, as a stream's are."""
        engines = self.engines
        last = np.zeros((1, *engines.denoiser.spec.outputs[0].dims), np.float32)
        ended = time.monotonic()
        for chunk in range(num_chunks):
            seed = session * 1000 + chunk
            audio = await engines.audio_encoder.infer(
                make_inputs(engines.audio_encoder.spec, 1, seed)
            )
            inputs = make_inputs(engines.denoiser.spec, 1, seed) | audio | {"motion": last}
            (latents,) = (await engines.denoiser.infer(inputs)).values()
            window = np.concatenate([last, latents], axis=1)
            (frames,) = (await engines.decoder.infer({"latents": window})).values()
            last = latents
            self.latents[session].append(latents)
            self.frames[session].append(frames)
            now = time.monotonic()
            self.longest_gap_s = max(self.longest_gap_s, now - ended - pause_s)
            ended = now
            await asyncio.sleep(pause_s)


@pytest.fixture
async def undisturbed(models: Path) -> Sessions:
    engines = await open_engines(models)
    try:
        return await Sessions(engines).run()
    finally:
        await engines.close()


def assert_same(left: Sessions, right: Sessions) -> None:
    for got, want in ((left.frames, right.frames), (left.latents, right.latents)):
        assert [len(chunks) for chunks in got] == [len(chunks) for chunks in want]
    for session in range(NUM_SESSIONS):
        for a, b in zip(left.frames[session], right.frames[session], strict=True):
            assert np.abs(a.astype(int) - b.astype(int)).max() <= 1
        for a, b in zip(left.latents[session], right.latents[session], strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5)


async def test_kill_and_restart(
    pair: list[TritonProcess], models: Path, undisturbed: Sessions, record_property
) -> None:
    engines = await open_triton_engines(models, options(pair))
    sessions = Sessions(engines)
    running = asyncio.create_task(sessions.run(pause_s=0.05))
    await until(lambda: sessions.num_chunks >= 12)
    await asyncio.to_thread(pair[0].kill)
    assert sessions.num_chunks < NUM_SESSIONS * NUM_CHUNKS / 2
    await running
    assert_same(sessions, undisturbed)
    assert not status_of(engines, pair[0]).serving
    await asyncio.to_thread(pair[0].start)
    await serving(engines, pair[0])
    before = [server.counts("denoiser")[0] for server in pair]
    again = await Sessions(engines).run()
    assert_same(again, undisturbed)
    after = [server.counts("denoiser")[0] for server in pair]
    assert min(now - then for now, then in zip(after, before, strict=True)) > NUM_SESSIONS
    assert sessions.longest_gap_s < 1
    record_property("longest_gap_ms", round(1000 * sessions.longest_gap_s))
    await engines.close()


async def test_the_only_server_comes_back_within_the_deadline(
    models: Path, tmp_path: Path, undisturbed: Sessions
) -> None:
    server = TritonProcess(models, tmp_path / "log").start()
    engines = await open_triton_engines(models, options([server], default_timeout_s=60))
    sessions = Sessions(engines)
    running = asyncio.create_task(sessions.run(pause_s=0.02))
    await until(lambda: sessions.num_chunks >= 12)
    await asyncio.to_thread(server.kill)
    await asyncio.to_thread(server.start)
    await running
    assert_same(sessions, undisturbed)
    await engines.close()
    server.stop()


async def test_polite_end_loses_nothing(
    pair: list[TritonProcess], models: Path, undisturbed: Sessions
) -> None:
    engines = await open_triton_engines(models, options(pair))
    sessions = Sessions(engines)
    running = asyncio.create_task(sessions.run(pause_s=0.02))
    await until(lambda: sessions.num_chunks >= 12)
    pair[0].signal(signal.SIGTERM)
    await running
    assert_same(sessions, undisturbed)
    assert await asyncio.to_thread(pair[0].wait) == 0
    await engines.close()


async def test_a_frozen_server_is_left_and_returns(
    pair: list[TritonProcess], models: Path, undisturbed: Sessions
) -> None:
    engines = await open_triton_engines(
        models, options(pair, default_timeout_s=2, probe_timeout_s=0.5)
    )
    sessions = Sessions(engines)
    running = asyncio.create_task(sessions.run(pause_s=0.02))
    await until(lambda: sessions.num_chunks >= 12)
    pair[0].signal(signal.SIGSTOP)
    await running
    assert_same(sessions, undisturbed)
    assert sessions.longest_gap_s < 2
    assert not status_of(engines, pair[0]).serving
    pair[0].signal(signal.SIGCONT)
    await serving(engines, pair[0])
    await engines.close()


async def test_a_dead_model_process_is_survived(
    pair: list[TritonProcess], models: Path, undisturbed: Sessions
) -> None:
    engines = await open_triton_engines(models, options(pair, default_timeout_s=4))
    sessions = Sessions(engines)
    running = asyncio.create_task(sessions.run(pause_s=0.02))
    await until(lambda: sessions.num_chunks >= 12)
    pair[0].signal_model("denoiser", signal.SIGKILL)
    await running
    assert_same(sessions, undisturbed)
    # One attempt of a session's waits for the dead process, and no more.
    assert sessions.longest_gap_s < 3
    await engines.close()
    # Triton does not mend it by itself.
    await asyncio.to_thread(pair[0].kill)


async def test_a_server_that_returns_with_other_weights_gets_no_calls(
    pair: list[TritonProcess], models: Path, tmp_path: Path, undisturbed: Sessions
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    changed = write_small_repository(other, seed=50)
    write_triton_repository(other, RepositoryOptions(platform="python"))
    engines = await open_triton_engines(models, options(pair))
    await asyncio.to_thread(pair[0].kill)
    pair[0].models = other
    await asyncio.to_thread(pair[0].start)
    await until(lambda: "weights" in status_of(engines, pair[0]).trouble)
    trouble = status_of(engines, pair[0]).trouble
    assert changed.weights_sha256 in trouble
    assert Manifest.load(models).weights_sha256 in trouble
    before = pair[0].counts("denoiser")
    assert_same(await Sessions(engines).run(), undisturbed)
    assert pair[0].counts("denoiser") == before
    # The right weights again: it serves again.
    await asyncio.to_thread(pair[0].kill)
    pair[0].models = models
    await asyncio.to_thread(pair[0].start)
    await serving(engines, pair[0])
    await engines.close()
    shutil.rmtree(other)
